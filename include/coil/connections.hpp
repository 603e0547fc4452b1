#pragma once

// Connections with transports and protocols: `loop.create_connection` and its relatives. Coroutines use <coil/streams.hpp>.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/function.hpp"
#include "coil/events.hpp"
#include "coil/protocols.hpp"
#include "coil/sockets.hpp"
#include "coil/transports.hpp"

namespace coil {

/// An address as an option: a host and a port, the path of a Unix socket, or nothing. Refers to the caller's text until the call
/// that it is given to has returned its Coro.
class HostPort {
  public:
    HostPort() = default;
    HostPort(std::string_view host, int port = 0) noexcept : host_(host), port_(port), given_(true) {}
    HostPort(const char* host, int port = 0) noexcept : HostPort(std::string_view(host), port) {}
    template <std::same_as<SocketAddress> Address>  // not what converts to one
    HostPort(const Address& address) noexcept
        : host_(address.host),
          port_(address.port),
          flowinfo_(address.flowinfo),
          scope_id_(address.scope_id),
          given_(true) {}

    explicit operator bool() const noexcept { return given_; }
    std::string_view host() const noexcept { return host_; }
    int port() const noexcept { return port_; }
    std::uint32_t flowinfo() const noexcept { return flowinfo_; }
    std::uint32_t scope_id() const noexcept { return scope_id_; }

  private:
    std::string_view host_;
    int port_ = 0;
    std::uint32_t flowinfo_ = 0;
    std::uint32_t scope_id_ = 0;
    bool given_ = false;
};

/// How to connect by TCP. All is copied when the call is made, not when it is awaited.
struct ConnectionOptions {
    const SslContext* ssl = nullptr;  // connect by TLS
    std::optional<std::string_view>
        server_hostname{};                // the name that is asked for and checked; none: the host
    const SslSession* session = nullptr;  // a TLS session to resume
    std::optional<Duration> ssl_handshake_timeout{};  // 60 s
    std::optional<Duration> ssl_shutdown_timeout{};   // 30 s
    int family = 0;                                   // AF_INET or AF_INET6 only
    int proto = 0;                                    // for the resolver
    int flags = 0;                                    // for the resolver: AI_ numbers
    HostPort local_addr{};                            // connect from this address
    std::optional<Duration>
        happy_eyeballs_delay{};       // try the next address after so long; none: after a failure
    std::optional<int> interleave{};  // of each family so many, then the other; with happy eyeballs: 1
    bool all_errors = false;          // an ExceptionGroup of all that failed
    std::size_t limit = 64 * 1024;    // bytes, of a line; for streams
};

/// TLS on a Unix socket needs a `server_hostname`; "" for none.
struct UnixConnectionOptions {
    const SslContext* ssl = nullptr;  // connect by TLS
    std::optional<std::string_view>
        server_hostname{};                // the name that is asked for and checked; none: the host
    const SslSession* session = nullptr;  // a TLS session to resume
    std::optional<Duration> ssl_handshake_timeout{};  // 60 s
    std::optional<Duration> ssl_shutdown_timeout{};   // 30 s
    std::size_t limit = 64 * 1024;
};

struct AcceptedSocketOptions {
    const SslContext* ssl = nullptr;                  // serve TLS
    std::optional<Duration> ssl_handshake_timeout{};  // 60 s
    std::optional<Duration> ssl_shutdown_timeout{};   // 30 s
};

struct StartTlsOptions {
    bool server_side = false;
    std::optional<std::string_view> server_hostname{};
    const SslSession* session = nullptr;
    std::optional<Duration> ssl_handshake_timeout{};
    std::optional<Duration> ssl_shutdown_timeout{};
};

namespace detail {

using AnyProtocolFactory = Function<std::shared_ptr<StreamingProtocol>()>;
using AnyConnected = Connected<Transport, StreamingProtocol>;

template <class Base, class Factory>
concept MakesProtocol = std::is_convertible_v<std::invoke_result_t<Factory&>, std::shared_ptr<Base>>;

/// The P of a factory that gives a shared_ptr<P>, or a unique_ptr<P>.
template <class Factory>
using ProtocolOf = typename std::pointer_traits<std::decay_t<std::invoke_result_t<Factory&>>>::element_type;

/// The error of a factory that makes something else.
template <class Base, class Factory>
constexpr bool check_factory() {
    static_assert(std::is_invocable_v<Factory&>, "a protocol factory is a function without arguments");
    static_assert(MakesProtocol<Base, Factory>,
                  "a protocol factory gives a std::shared_ptr to a protocol of the right kind");
    return true;
}

template <class T, class P, class Any>
Coro<Connected<T, P>> with_protocol_type(Coro<Any> connecting) {
    auto connected = co_await std::move(connecting);
    co_return Connected<T, P>{std::move(connected.transport),
                              std::static_pointer_cast<P>(std::move(connected.protocol))};
}

Coro<AnyConnected> create_connection(EventLoop& loop, AnyProtocolFactory factory, std::string host, int port,
                                     const ConnectionOptions& options);
Coro<AnyConnected> create_connection(EventLoop& loop, AnyProtocolFactory factory, Socket socket,
                                     const ConnectionOptions& options);
Coro<AnyConnected> create_unix_connection(EventLoop& loop, AnyProtocolFactory factory, std::string path,
                                          const UnixConnectionOptions& options);
Coro<AnyConnected> connect_accepted_socket(EventLoop& loop, AnyProtocolFactory factory, Socket socket,
                                           const AcceptedSocketOptions& options);

}  // namespace detail

template <class Factory, class Options>
auto EventLoop::create_connection(Factory factory, std::string host, int port, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::create_connection(*this, std::move(factory), std::move(host), port, options));
}

template <class Factory, class Options>
auto EventLoop::create_connection(Factory factory, Socket socket, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::create_connection(*this, std::move(factory), std::move(socket), options));
}

template <class Factory, class Options>
auto EventLoop::create_unix_connection(Factory factory, std::string path, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::create_unix_connection(*this, std::move(factory), std::move(path), options));
}

template <class Factory, class Options>
auto EventLoop::connect_accepted_socket(Factory factory, Socket socket, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::with_protocol_type<Transport, detail::ProtocolOf<Factory>>(
        detail::connect_accepted_socket(*this, std::move(factory), std::move(socket), options));
}

}  // namespace coil
