#pragma once

// Datagrams: `loop.create_datagram_endpoint`.

#include <memory>
#include <string>
#include <utility>

#include "coil/connections.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/function.hpp"
#include "coil/events.hpp"
#include "coil/protocols.hpp"
#include "coil/sockets.hpp"
#include "coil/transports.hpp"

namespace coil {

/// ValueError without any of the two addresses, unless the family is given.
struct DatagramOptions {
    HostPort local_addr{};   // bind to it
    HostPort remote_addr{};  // connect to it: other peers are not heard
    int family = 0;          // AF_INET or AF_INET6 only; AF_UNIX: the addresses are paths
    int proto = 0;
    int flags = 0;  // for the resolver: AI_ numbers
    bool reuse_port = false;
    bool allow_broadcast = false;
};

namespace detail {

using AnyDatagramFactory = Function<std::shared_ptr<DatagramProtocol>()>;
using AnyDatagramEndpoint = Connected<DatagramTransport, DatagramProtocol>;

Coro<AnyDatagramEndpoint> create_datagram_endpoint(EventLoop& loop, AnyDatagramFactory factory,
                                                   const DatagramOptions& options);
Coro<AnyDatagramEndpoint> create_datagram_endpoint(EventLoop& loop, AnyDatagramFactory factory,
                                                   Socket socket);

}  // namespace detail

template <class Factory, class Options>
auto EventLoop::create_datagram_endpoint(Factory factory, Options options) {
    static_assert(detail::check_factory<DatagramProtocol, Factory>());
    return detail::with_protocol_type<DatagramTransport, detail::ProtocolOf<Factory>>(
        detail::create_datagram_endpoint(*this, std::move(factory), options));
}

template <class Factory>
auto EventLoop::create_datagram_endpoint(Factory factory, Socket socket) {
    static_assert(detail::check_factory<DatagramProtocol, Factory>());
    return detail::with_protocol_type<DatagramTransport, detail::ProtocolOf<Factory>>(
        detail::create_datagram_endpoint(*this, std::move(factory), std::move(socket)));
}

}  // namespace coil
