// bench_echo_epoll PORT
//
// The raw server that the others are compared with: level-triggered epoll, one recv and one send per event.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

struct Connection {
    int fd;
    std::string unsent;  // while it is not empty the connection waits for writing only
};

static char buffer[256 * 1024];

static void watch(int poller, Connection* connection, int operation) {
    epoll_event interest{};
    interest.events = connection->unsent.empty() ? EPOLLIN : EPOLLOUT;
    interest.data.ptr = connection;
    epoll_ctl(poller, operation, connection->fd, &interest);
}

static void drop(Connection* connection) {
    close(connection->fd);
    delete connection;
}

/// Sends what goes out now; -1 if the connection is broken.
static ssize_t send_some(int fd, const char* data, size_t size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void on_writable(int poller, Connection* connection) {
    ssize_t sent = send_some(connection->fd, connection->unsent.data(), connection->unsent.size());
    if (sent < 0) return drop(connection);
    connection->unsent.erase(0, static_cast<size_t>(sent));
    if (connection->unsent.empty()) watch(poller, connection, EPOLL_CTL_MOD);
}

static void on_readable(int poller, Connection* connection) {
    ssize_t size = recv(connection->fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return drop(connection);
    ssize_t sent = send_some(connection->fd, buffer, static_cast<size_t>(size));
    if (sent < 0) return drop(connection);
    if (sent == size) return;
    connection->unsent.assign(buffer + sent, static_cast<size_t>(size - sent));
    watch(poller, connection, EPOLL_CTL_MOD);
}

static void accept_all(int poller, int listener) {
    for (;;) {
        int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        watch(poller, new Connection{fd, {}}, EPOLL_CTL_ADD);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // inherited by what it accepts
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 || listen(fd, 4096) < 0) {
        std::perror("listen");
        std::exit(1);
    }
    return fd;
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    int listener = listen_on(std::atoi(argv[1]));
    int poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_event interest{};
    interest.events = EPOLLIN;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &interest);
    epoll_event events[1024];
    for (;;) {
        int count = epoll_wait(poller, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            auto* connection = static_cast<Connection*>(events[i].data.ptr);
            if (!connection) {
                accept_all(poller, listener);
            } else if (connection->unsent.empty()) {
                on_readable(poller, connection);
            } else {
                on_writable(poller, connection);
            }
        }
    }
}
