#pragma once

// Pipes with transports and protocols: `loop.connect_read_pipe`, `loop.connect_write_pipe`.

#include <utility>

#include "coil/connections.hpp"
#include "coil/coroutines.hpp"
#include "coil/events.hpp"
#include "coil/transports.hpp"

namespace coil {

namespace detail {

Coro<AnyConnected> connect_read_pipe(EventLoop& loop, AnyProtocolFactory factory, int fd);
Coro<AnyConnected> connect_write_pipe(EventLoop& loop, AnyProtocolFactory factory, int fd);

}  // namespace detail

template <class Factory>
auto EventLoop::connect_read_pipe(Factory factory, int fd) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::connect_read_pipe(*this, std::move(factory), fd));
}

template <class Factory>
auto EventLoop::connect_write_pipe(Factory factory, int fd) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::connect_write_pipe(*this, std::move(factory), fd));
}

}  // namespace coil
