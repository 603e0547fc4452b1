// A server on loopback by level-triggered epoll and nothing else.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

inline int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // inherited by what it accepts
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 || listen(fd, 4096) < 0) {
        std::perror("listen");
        std::exit(1);
    }
    return fd;
}

/// For EPOLL_CTL_ADD and EPOLL_CTL_MOD.
inline void watch(int poller, int operation, int fd, std::uint32_t events, void* connection) {
    epoll_event interest{};
    interest.events = events;
    interest.data.ptr = connection;
    epoll_ctl(poller, operation, fd, &interest);
}

/// Calls `make(poller, fd)` for each connection; the object that it returns has watched its descriptor, gets
/// `on_ready()` for each event, and deletes itself.
template <class Connection, class Make>
[[noreturn]] void serve(int port, Make make) {
    int listener = listen_on(port);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, nullptr);
    epoll_event events[1024];
    for (;;) {
        int count = epoll_wait(poller, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            if (auto* connection = static_cast<Connection*>(events[i].data.ptr)) {
                connection->on_ready();
                continue;
            }
            for (;;) {
                int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0) break;
                make(poller, fd);
            }
        }
    }
}
