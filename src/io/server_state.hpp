#pragma once

// A server behind its handles: listening sockets, and the list of live connections.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "coil/connections.hpp"
#include "coil/events.hpp"
#include "coil/futures.hpp"
#include "coil/sockets.hpp"
#include "io/queued_watch.hpp"
#include "io/tls_protocol.hpp"

namespace coil::detail {

class SocketTransport;
struct Address;

/// The file of a Unix server's socket, removed when the server closes if it is still the same.
struct SocketFile {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;

    void remove() const noexcept;
};

class ServerState : public LoopResource, public std::enable_shared_from_this<ServerState> {
  public:
    ServerState(EventLoop& loop, std::vector<Socket> sockets, AnyProtocolFactory factory, int backlog);
    ~ServerState() override;

    void start_serving();
    // These keep the server from the call on, not from their first step: the handle may be gone by then.
    Coro<> serve_forever() { return serve_forever(shared_from_this()); }
    Coro<> wait_closed() { return wait_closed(shared_from_this()); }
    void close();
    void close_clients();
    void abort_clients();

    bool closed() const noexcept { return closed_; }
    bool serving() const noexcept { return serving_; }
    std::vector<TransportSocket> sockets() const;
    EventLoop& loop() const noexcept { return loop_; }

    void clean_up(SocketFile file) { socket_file_ = std::move(file); }
    void use_tls(std::optional<TlsSettings> settings) { tls_ = std::move(settings); }
    void attach(SocketTransport& transport);
    void detach(SocketTransport& transport);

  private:
    static Coro<> serve_forever(std::shared_ptr<ServerState> self);
    static Coro<> wait_closed(std::shared_ptr<ServerState> self);

    struct Listener final : QueuedWatch {
        Listener(ServerState& state, Socket listening);
        static void run(Runnable& self, How how);
        void accept_some();
        void report(const char* message, int error);
        /// Stops for a second.
        void pause(const char* message, int error);
        /// The socket listens no more, and will not again by itself.
        void broke(int error);
        ServerState& server;
        Socket socket;
        TimerHandle retry;
        bool broken = false;
    };

    void loop_closed() noexcept override;
    void listener_broke(int error);
    void connected(Socket socket, const Address& peer);
    std::shared_ptr<StreamingProtocol> over_tls(std::shared_ptr<StreamingProtocol> protocol);
    std::vector<std::shared_ptr<SocketTransport>> live() const;

    EventLoop& loop_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    AnyProtocolFactory factory_;
    int backlog_;
    std::vector<SocketTransport*> connections_;  // each knows its place, and takes itself out in detach()
    SocketFile socket_file_;
    std::optional<TlsSettings> tls_;
    std::shared_ptr<ServerState> keeps_itself_;  // while it listens or has connections
    Future<> ended_;                             // closed, and the last connection gone
    Future<> serving_forever_;
    bool serving_ = false;
    bool closed_ = false;
};

}  // namespace coil::detail
