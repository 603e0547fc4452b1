// Load generator for an echo server on loopback.
//
//     bench_echo_load --port PORT --pid SERVER_PID [--mode echo|idle|accept] [--tls 1] [--connections N]
//                     [--size BYTES] [--end fin|reset] [--warm SECONDS] [--seconds SECONDS]
//
// echo    every connection has one message on its way; what comes back is compared byte by byte with what was
//         sent. Prints the server's CPU time per message and per MiB, and the messages per second.
// idle    opens the connections, uses each once and prints the server's resident bytes per connection.
// accept  connects, exchanges one byte and ends, sixteen connections at a time; prints connections per second
//         and the server's CPU time per connection. With TLS each makes a full handshake of TLS 1.3.
//
// One thread. CPU time is what the scheduler has counted for all threads of the server between the two ends
// of the measured window. Ends with status 3 if a byte is wrong.
#include <sys/epoll.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "../common/bench.hpp"
#include "channel.hpp"

struct Options {
    int port = 0;
    int pid = 0;
    std::string mode = "echo";
    std::string end = "fin";
    SSL_CTX* tls = nullptr;
    int connections = 1;
    std::size_t size = 64;
    double warm = 0.2;
    double seconds = 1;
};

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

struct Connection {
    Channel channel;
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
        connections_.reserve(static_cast<std::size_t>(options.connections));
        for (int id = 0; id < options.connections; id++) open(id);
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
        cpu = server_cpu_ns(options_.pid) - cpu;
        report("server_ns_per_message", "", cpu / messages);
        report("server_ns_per_mebibyte", "", cpu / messages / static_cast<double>(options_.size) * (1 << 20));
        report("messages_per_second", "", messages * 1e9 / took);
    }

  private:
    void open(int id) {
        Connection& connection = connections_.emplace_back(Channel(options_.port, options_.tls));
        connection.start = Pattern::start_of(id);
        connection.channel.send_byte();
        connection.channel.receive_byte();
        connection.channel.set_blocking(false);
        watch(connection, EPOLL_CTL_ADD);
    }

    void watch(Connection& connection, int operation) {
        epoll_event interest{};
        interest.events = EPOLLIN | (connection.wants_write ? EPOLLOUT : 0u);
        interest.data.ptr = &connection;
        if (epoll_ctl(poller_, operation, connection.channel.fd(), &interest) < 0) fail("epoll_ctl");
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
            ssize_t count = connection.channel.send(pattern_.at(connection.start) + connection.sent,
                                                    options_.size - connection.sent);
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
        ssize_t count = connection.channel.recv(buffer_.data(), options_.size - connection.received);
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
    std::vector<Channel> channels;
    auto open = [&] {
        Channel& channel = channels.emplace_back(options.port, options.tls);
        channel.send_byte();
        channel.receive_byte();
    };
    open();
    double before = server_resident_bytes(options.pid);
    for (int i = 0; i < options.connections; i++) open();
    usleep(100'000);
    double after = server_resident_bytes(options.pid);
    report("server_bytes_per_connection", "", (after - before) / options.connections);
}

void run_accept(const Options& options) {
    constexpr int AT_A_TIME = 16;
    long connections = 0;
    auto run_until = [&](double deadline) {
        while (now_ns() < deadline) {
            std::vector<Channel> channels;
            channels.reserve(AT_A_TIME);
            for (int i = 0; i < AT_A_TIME; i++) channels.emplace_back(options.port, options.tls);
            for (Channel& channel : channels) channel.send_byte();
            for (Channel& channel : channels) {
                channel.receive_byte();
                if (options.end == "fin") channel.finish();
            }
            if (options.end == "fin")
                for (Channel& channel : channels) channel.wait_end();
            connections += AT_A_TIME;
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
    if (values.count("--end")) options.end = values["--end"];
    if (values.count("--tls")) options.tls = new_tls_client();
    if (options.port == 0 || options.size == 0) {
        std::fprintf(stderr,
                     "usage: %s --port PORT --pid PID [--mode echo|idle|accept] [--tls 1] [--connections N] "
                     "[--size BYTES] [--end fin|reset] [--warm SECONDS] [--seconds SECONDS]\n",
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
