#pragma once

// A server behind its handles: listening sockets, and the list of live connections.

#include <functional>
#include <memory>
#include <vector>

#include "coil/events.hpp"
#include "coil/futures.hpp"
#include "coil/protocols.hpp"
#include "io/socket.hpp"

namespace coil::detail {

class SocketTransport;

using ProtocolFactory = std::function<std::shared_ptr<Protocol>()>;

class ServerState : public LoopResource, public std::enable_shared_from_this<ServerState> {
  public:
    ServerState(EventLoop& loop, std::vector<Socket> sockets, ProtocolFactory factory, int backlog);
    ~ServerState() override;

    void start_serving();
    Coro<> serve_forever();
    void close();
    Coro<> wait_closed();
    void close_clients();
    void abort_clients();

    bool closed() const noexcept { return closed_; }
    bool serving() const noexcept { return serving_; }
    std::vector<TransportSocket> sockets() const;
    EventLoop& loop() const noexcept { return loop_; }

    void attach(SocketTransport& transport) { connections_.push_back(&transport); }
    void detach(SocketTransport& transport);

  private:
    struct Listener final : QueuedWatch {
        Listener(ServerState& state, Socket listening);
        static void run(Runnable& self, How how);
        void accept_some();
        void out_of_resources(int error);
        ServerState& server;
        Socket socket;
        TimerHandle retry;
    };

    void loop_closed() noexcept override;
    void connected(Socket socket);
    std::vector<std::shared_ptr<SocketTransport>> live() const;

    EventLoop& loop_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    ProtocolFactory factory_;
    int backlog_;
    std::vector<SocketTransport*> connections_;  // each takes itself out in detach()
    std::shared_ptr<ServerState> keeps_itself_;  // while it listens: dropping all handles does not stop it
    Future<> ended_;                             // closed, and the last connection gone
    Future<> serving_forever_;
    bool serving_ = false;
    bool closed_ = false;
};

}  // namespace coil::detail
