// Load generator for an echo server on loopback.
//
//     bench_echo_load --port PORT --pid SERVER_PID [--mode echo|idle|accept] [--connections N] [--size BYTES]
//                     [--warm SECONDS] [--seconds SECONDS]
//
// echo    every connection has one message on its way; what comes back is compared byte by byte with what was
//         sent. Prints the server's CPU time per message and the messages per second.
// idle    opens the connections, uses each once and prints the server's resident bytes per connection.
// accept  connects, exchanges one byte and resets, sixteen connections at a time; prints connections per
//         second and the server's CPU time per connection.
//
// One thread. CPU time is what the scheduler has counted for all threads of the server between the two ends
// of the measured window. Ends with status 3 if a byte is wrong.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "../common/bench.hpp"

struct Options {
    int port = 0;
    int pid = 0;
    std::string mode = "echo";
    int connections = 1;
    std::size_t size = 64;
    double warm = 0.2;
    double seconds = 1;
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

/// What connection `id` sends is an endless stream cut out of one block of random bytes, starting elsewhere
/// for each connection: a byte that is lost, repeated, or sent to the wrong connection shows.
class Pattern {
  public:
    explicit Pattern(std::size_t longest) : bytes_(PERIOD + longest) {
        std::mt19937 random(1);
        for (std::size_t i = 0; i < bytes_.size(); i++)
            bytes_[i] = i < PERIOD ? static_cast<char>(random()) : bytes_[i - PERIOD];
    }
    static std::size_t start_of(int id) { return static_cast<std::size_t>(id) * 257 % PERIOD; }
    static std::size_t advance(std::size_t start, std::size_t size) { return (start + size) % PERIOD; }
    const char* at(std::size_t start) const { return bytes_.data() + start; }

  private:
    static constexpr std::size_t PERIOD = 32749;  // a prime: no message size divides it
    std::vector<char> bytes_;
};

double server_cpu_ns(int pid) {
    double total = 0;
    std::error_code error;
    auto tasks = std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", error);
    for (const auto& task : tasks) {
        double on_cpu = 0;
        std::ifstream(task.path() / "schedstat") >> on_cpu;
        total += on_cpu;
    }
    return total;
}

double server_resident_bytes(int pid) {
    std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
    double total = 0;
    double resident = 0;
    statm >> total >> resident;
    return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    linger reset{1, 0};  // leave no port in TIME_WAIT
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) fail("connect");
    return fd;
}

void send_byte(int fd) {
    if (send(fd, "?", 1, 0) != 1) fail("send");
}

void receive_byte(int fd) {
    char byte = 0;
    if (recv(fd, &byte, 1, 0) != 1 || byte != '?') fail("the first byte did not come back");
}

struct Connection {
    int fd = -1;
    std::size_t start = 0;     // of the current message in the pattern
    std::size_t sent = 0;      // bytes of it
    std::size_t received = 0;  // bytes of it
    bool wants_write = false;
};

class EchoLoad {
  public:
    explicit EchoLoad(const Options& options)
        : options_(options),
          pattern_(options.size),
          buffer_(std::max<std::size_t>(options.size, 1)),
          poller_(epoll_create1(EPOLL_CLOEXEC)) {
        connections_.resize(static_cast<std::size_t>(options.connections));
        for (std::size_t i = 0; i < connections_.size(); i++) open(static_cast<int>(i), connections_[i]);
    }

    void run() {
        for (Connection& connection : connections_) send_rest(connection);
        run_until(now_ns() + options_.warm * 1e9);
        double cpu = server_cpu_ns(options_.pid);
        double start = now_ns();
        messages_ = 0;
        run_until(start + options_.seconds * 1e9);
        double took = now_ns() - start;
        auto messages = static_cast<double>(messages_);
        if (messages_ == 0) fail("no message came back");
        report("server_ns_per_message", "", (server_cpu_ns(options_.pid) - cpu) / messages);
        report("messages_per_second", "", messages * 1e9 / took);
    }

  private:
    void open(int id, Connection& connection) {
        connection.fd = connect_to(options_.port);
        connection.start = Pattern::start_of(id);
        send_byte(connection.fd);
        receive_byte(connection.fd);
        fcntl(connection.fd, F_SETFL, fcntl(connection.fd, F_GETFL) | O_NONBLOCK);
        watch(connection, EPOLL_CTL_ADD);
    }

    void watch(Connection& connection, int operation) {
        epoll_event interest{};
        interest.events = EPOLLIN | (connection.wants_write ? EPOLLOUT : 0u);
        interest.data.ptr = &connection;
        if (epoll_ctl(poller_, operation, connection.fd, &interest) < 0) fail("epoll_ctl");
    }

    void run_until(double deadline) {
        epoll_event events[512];
        for (unsigned turn = 0; turn % 16 != 0 || now_ns() < deadline; turn++) {
            int count = epoll_wait(poller_, events, 512, 100);
            for (int i = 0; i < count; i++) {
                auto& connection = *static_cast<Connection*>(events[i].data.ptr);
                if (events[i].events & EPOLLOUT) send_rest(connection);
                if (events[i].events & ~static_cast<unsigned>(EPOLLOUT)) receive(connection);
            }
        }
    }

    void send_rest(Connection& connection) {
        while (connection.sent < options_.size) {
            ssize_t count = send(connection.fd, pattern_.at(connection.start) + connection.sent,
                                 options_.size - connection.sent, 0);
            if (count < 0) {
                if (errno != EAGAIN) fail("send");
                break;
            }
            connection.sent += static_cast<std::size_t>(count);
        }
        bool wants_write = connection.sent < options_.size;
        if (wants_write != connection.wants_write) {
            connection.wants_write = wants_write;
            watch(connection, EPOLL_CTL_MOD);
        }
    }

    void receive(Connection& connection) {
        ssize_t count = recv(connection.fd, buffer_.data(), options_.size - connection.received, 0);
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) fail("recv");
        if (count == 0) fail("the server closed a connection");
        auto size = static_cast<std::size_t>(count);
        const char* expected = pattern_.at(connection.start) + connection.received;
        connection.received += size;
        if (connection.received > connection.sent || std::memcmp(buffer_.data(), expected, size) != 0) {
            std::fprintf(stderr, "load: a byte came back wrong\n");
            std::exit(3);
        }
        if (connection.received < options_.size) return;
        messages_++;
        connection.start = Pattern::advance(connection.start, options_.size);
        connection.sent = connection.received = 0;
        send_rest(connection);
    }

    const Options& options_;
    Pattern pattern_;
    std::vector<char> buffer_;
    int poller_;
    std::vector<Connection> connections_;
    long messages_ = 0;
};

void run_idle(const Options& options) {
    int first = connect_to(options.port);
    send_byte(first);
    receive_byte(first);
    double before = server_resident_bytes(options.pid);
    for (int i = 0; i < options.connections; i++) {
        int fd = connect_to(options.port);
        send_byte(fd);
        receive_byte(fd);
    }
    usleep(100'000);
    double after = server_resident_bytes(options.pid);
    report("server_bytes_per_connection", "", (after - before) / options.connections);
}

void run_accept(const Options& options) {
    std::vector<int> fds(16);
    long connections = 0;
    auto run_until = [&](double deadline) {
        while (now_ns() < deadline) {
            for (int& fd : fds) {
                fd = connect_to(options.port);
                send_byte(fd);
            }
            for (int fd : fds) {
                receive_byte(fd);
                close(fd);
                connections++;
            }
        }
    };
    run_until(now_ns() + options.warm * 1e9);
    double cpu = server_cpu_ns(options.pid);
    double start = now_ns();
    connections = 0;
    run_until(start + options.seconds * 1e9);
    auto count = static_cast<double>(connections);
    report("connections_per_second", "", count * 1e9 / (now_ns() - start));
    report("server_ns_per_connection", "", (server_cpu_ns(options.pid) - cpu) / count);
}

Options parse(int argc, char** argv) {
    std::map<std::string, std::string> values;
    for (int i = 1; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
    Options options;
    auto number = [&](const char* name, auto& value) {
        if (values.count(name))
            value = static_cast<std::decay_t<decltype(value)>>(std::atof(values[name].c_str()));
    };
    number("--port", options.port);
    number("--pid", options.pid);
    number("--connections", options.connections);
    number("--size", options.size);
    number("--warm", options.warm);
    number("--seconds", options.seconds);
    if (values.count("--mode")) options.mode = values["--mode"];
    if (options.port == 0 || options.size == 0) {
        std::fprintf(stderr,
                     "usage: %s --port PORT --pid PID [--mode echo|idle|accept] [--connections N] "
                     "[--size BYTES] [--warm SECONDS] [--seconds SECONDS]\n",
                     argv[0]);
        std::exit(2);
    }
    return options;
}

int main(int argc, char** argv) {
    Options options = parse(argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (options.mode == "idle") {
        run_idle(options);
    } else if (options.mode == "accept") {
        run_accept(options);
    } else {
        EchoLoad(options).run();
    }
}
