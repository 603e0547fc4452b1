#pragma once

// Raw sockets for tests of connections.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <utility>

#include "coil/coil.hpp"

namespace support {

/// Makes the next close of a TCP socket a reset.
inline void close_hard(const coil::TransportSocket& socket) {
    linger hard{.l_onoff = 1, .l_linger = 0};
    EXPECT_EQ(::setsockopt(socket.fileno(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
}

/// A socket that listens on a free port of 127.0.0.1.
inline coil::Socket listening(int backlog = 128) {
    coil::Socket socket(AF_INET, SOCK_STREAM);
    socket.bind({"127.0.0.1"});
    socket.listen(backlog);
    return socket;
}

/// A pair of connected TCP sockets.
inline coil::Coro<std::pair<coil::Socket, coil::Socket>> tcp_pair() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::Socket server = listening(1);
    coil::Socket client(AF_INET, SOCK_STREAM);
    co_await loop.sock_connect(client, server.getsockname());
    auto accepted = co_await loop.sock_accept(server);
    co_return {std::move(client), std::move(accepted.first)};
}

}  // namespace support
