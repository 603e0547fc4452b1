#pragma once

// Server: listening sockets and the connections that came from them. A shared handle.

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "coil/connections.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/fwd.hpp"
#include "coil/sockets.hpp"

namespace coil {

namespace detail {
class ServerState;
}

/// How to listen. All is copied when the call is made, not when it is awaited.
struct ServerOptions {
    const SslContext* ssl = nullptr;                  // serve TLS
    std::optional<Duration> ssl_handshake_timeout{};  // 60 s
    std::optional<Duration> ssl_shutdown_timeout{};   // 30 s
    int family = 0;                                   // AF_INET or AF_INET6 only
    int flags = 0;                  // for the resolver: AI_ numbers; AI_PASSIVE is always there
    bool reuse_address = true;      // SO_REUSEADDR
    bool reuse_port = false;        // SO_REUSEPORT: several servers share the port
    bool keep_alive = false;        // SO_KEEPALIVE on each connection
    int backlog = 100;              // connections that wait to be accepted
    std::size_t limit = 64 * 1024;  // bytes, of a line; for streams
    bool start_serving = true;
};

struct UnixServerOptions {
    const SslContext* ssl = nullptr;                  // serve TLS
    std::optional<Duration> ssl_handshake_timeout{};  // 60 s
    std::optional<Duration> ssl_shutdown_timeout{};   // 30 s
    int backlog = 100;
    std::size_t limit = 64 * 1024;
    bool start_serving = true;
    bool cleanup_socket = true;  // remove the socket's file on close
};

class Server {
  public:
    /// Stops listening, at once; live connections stay. Ends `serve_forever()`. Idempotent.
    void close();
    /// Waits until the server is closed and its last connection has ended.
    Coro<> wait_closed();
    /// Begins to accept, if `start_serving = false` put that off. Idempotent.
    Coro<> start_serving();
    /// Accepts until cancelled; then closes the server and waits for its connections. RuntimeError if it is closed, or served by
    /// another call.
    Coro<> serve_forever();
    bool is_serving() const;
    /// In one line, see format.hpp.
    std::string describe() const;
    /// Closes all live connections, with what they have buffered and over TLS with its end; or aborts them.
    void close_clients();
    void abort_clients();
    /// The listening sockets; none after `close()`.
    std::vector<TransportSocket> sockets() const;
    EventLoop& get_loop() const;

    // `async_with(server, body)`: closes and waits at the end.
    Server& enter() { return *this; }
    Coro<> aexit(std::exception_ptr error);

    /// For coil's own layers.
    explicit Server(std::shared_ptr<detail::ServerState> state) noexcept : state_(std::move(state)) {}

  private:
    std::shared_ptr<detail::ServerState> state_;
};

namespace detail {

// A null loop: the one that runs when the Coro is awaited.
Coro<Server> create_server(EventLoop* loop, AnyProtocolFactory factory, std::vector<std::string> hosts,
                           int port, const ServerOptions& options);
Coro<Server> create_server(EventLoop* loop, AnyProtocolFactory factory, Socket socket,
                           const ServerOptions& options);
Coro<Server> create_unix_server(EventLoop* loop, AnyProtocolFactory factory, std::string path,
                                const UnixServerOptions& options);

}  // namespace detail

template <class Factory, class Options>
auto EventLoop::create_server(Factory factory, std::string host, int port, Options options) {
    std::vector<std::string> hosts;
    hosts.push_back(std::move(host));
    return create_server(std::move(factory), std::move(hosts), port, options);
}

template <class Factory, class Options>
auto EventLoop::create_server(Factory factory, std::vector<std::string> hosts, int port, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::create_server(this, std::move(factory), std::move(hosts), port, options);
}

template <class Factory, class Options>
auto EventLoop::create_server(Factory factory, Socket socket, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::create_server(this, std::move(factory), std::move(socket), options);
}

template <class Factory, class Options>
auto EventLoop::create_unix_server(Factory factory, std::string path, Options options) {
    static_assert(detail::check_factory<StreamingProtocol, Factory>());
    return detail::create_unix_server(this, std::move(factory), std::move(path), options);
}

template <>
inline constexpr bool detail::DESCRIBED<Server> = true;

}  // namespace coil
