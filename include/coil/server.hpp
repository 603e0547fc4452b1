#pragma once

// Server: listening sockets and the connections that came from them. A shared handle.

#include <exception>
#include <memory>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/fwd.hpp"
#include "coil/sockets.hpp"

namespace coil {

namespace detail {
class ServerState;
}

class Server {
  public:
    /// Stops listening, at once; live connections stay. Ends `serve_forever()`. Idempotent.
    void close();
    /// Waits until the server is closed and its last connection has ended.
    Coro<> wait_closed();
    /// Begins to accept, if `start_serving = false` put that off. Idempotent.
    void start_serving();
    /// Accepts until cancelled; then closes the server and waits for its connections. RuntimeError if it is closed, or served by
    /// another call.
    Coro<> serve_forever();
    bool is_serving() const;
    /// Closes, or aborts, all live connections.
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

}  // namespace coil
