#include "coil/server.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "coil/combinators.hpp"
#include "coil/exceptions.hpp"
#include "coil/futures.hpp"
#include "coil/log.hpp"
#include "io/address.hpp"
#include "io/dns.hpp"
#include "io/server_state.hpp"
#include "io/socket_transport.hpp"
#include "io/tls_plan.hpp"
#include "loop/debug_log.hpp"

namespace coil {

namespace detail {

ServerState::ServerState(EventLoop& loop, std::vector<Socket> sockets, AnyProtocolFactory factory,
                         int backlog)
    : loop_(loop), factory_(std::move(factory)), backlog_(backlog), ended_(loop.create_future()) {
    for (Socket& socket : sockets) listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket)));
    loop.core().resources.push_back(*this);
}

ServerState::~ServerState() {
    for (auto& listener : listeners_) listener->retry.cancel();
    if (linked()) unlink();
}

void ServerState::loop_closed() noexcept {
    auto keep = keeps_itself_;
    if (connections_.empty()) keeps_itself_ = nullptr;
    if (!closed_) socket_file_.remove();
    listeners_.clear();
    closed_ = true;
    serving_ = false;
}

ServerState::Listener::Listener(ServerState& state, Socket listening)
    : QueuedWatch(state.loop_, listening.fileno(), &Listener::run),
      server(state),
      socket(std::move(listening)) {
    send_without_delay(socket.fileno());
}

void ServerState::Listener::run(Runnable& self, How how) {
    auto& listener = static_cast<Listener&>(self);
    listener.dequeued();
    if (how == How::DISCARD || !listener.started()) return;
    auto keep = listener.server.shared_from_this();
    listener.accept_some();
}

void ServerState::Listener::accept_some() {
    // As many as may have queued up, then the rest of the loop's work.
    bool any = false;
    // The last error that says nothing of the listener: a firewall's, the network's, of one connection.
    int unknown = 0;
    for (int i = 0; i <= server.backlog_; ++i) {
        Address peer;
        int accepted = ::accept4(socket.fileno(), peer.data(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            server.connected(Socket::adopt_nonblocking(accepted), peer);
            if (!started()) return;  // the factory has closed the server
            any = true;
            continue;
        }
        switch (errno) {
            case EAGAIN:
                if (unknown) report("Accepting a connection failed", unknown);
                return;
            case EINTR:
            case ECONNABORTED:
            case EPROTO:
                continue;  // that connection is gone already
            case EMFILE:
            case ENFILE:
            case ENOBUFS:
            case ENOMEM:
                return pause("socket.accept() out of system resource", errno);
            case EBADF:
            case EFAULT:
            case EINVAL:
            case ENOTSOCK:
                return broke(errno);
            default:
                unknown = errno;
        }
    }
    if (unknown && !any) return pause("Accepting connections failed", unknown);
    queue();
    if (unknown) report("Accepting a connection failed", unknown);
}

void ServerState::Listener::report(const char* message, int error) {
    server.loop_.call_exception_handler({.message = message, .exception = make_os_error(error)});
}

void ServerState::Listener::pause(const char* message, int error) {
    constexpr std::chrono::seconds RETRY{1};
    stop();
    retry = server.loop_.call_later(RETRY, [this] { start(); });
    report(message, error);
}

void ServerState::Listener::broke(int error) {
    stop();
    broken = true;
    server.listener_broke(error);
    report("Accepting connections failed; the server no longer listens on this socket", error);
}

void ServerState::listener_broke(int error) {
    if (!std::ranges::all_of(listeners_, [](const auto& listener) { return listener->broken; })) return;
    serving_ = false;
    if (serving_forever_ && !serving_forever_.done()) serving_forever_.set_exception(make_os_error(error));
    if (keeps_itself_) loop_.call_soon([keep = keeps_itself_] {});  // a listener may be in the ready queue
    if (connections_.empty()) keeps_itself_ = nullptr;
}

void ServerState::connected(Socket socket, const Address& peer) {
    try {
        std::shared_ptr<StreamingProtocol> protocol = factory_();
        if (tls_) protocol = over_tls(std::move(protocol));
        auto transport =
            std::make_shared<SocketTransport>(loop_, std::move(socket), std::move(protocol), *this, peer);
        transport->start();
        debug_log(loop_, LogLevel::DEBUG_, [&] {
            return fmt::format("{} got a new connection: {}", Server(shared_from_this()).describe(),
                               transport->describe());
        });
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler({.message = "Error on transport creation for incoming connection",
                                      .exception = std::current_exception()});
    }
}

std::shared_ptr<StreamingProtocol> ServerState::over_tls(std::shared_ptr<StreamingProtocol> protocol) {
    // A handshake fails at the client's will: that is worth a report only to whoever looks for it.
    auto on_ready = [&loop = loop_](std::exception_ptr error) {
        if (!error || !loop.get_debug()) return;
        loop.call_exception_handler({.message = "Error on transport creation for incoming connection",
                                     .exception = std::move(error)});
    };
    return std::make_shared<TlsProtocol>(loop_, std::move(protocol), *tls_, std::move(on_ready));
}

void ServerState::start_serving() {
    if (serving_) return;
    if (closed_) throw RuntimeError("server is closed");
    for (auto& listener : listeners_) {
        if (::listen(listener->socket.fileno(), backlog_) < 0) throw_os_error(errno);
    }
    for (auto& listener : listeners_) {
        listener->broken = false;
        listener->start();
    }
    serving_ = true;
    keeps_itself_ = shared_from_this();
    debug_log(loop_, LogLevel::INFO, [&] { return Server(keeps_itself_).describe() + " is serving"; });
}

void SocketFile::remove() const noexcept {
    struct stat status{};
    if (path.empty() || ::stat(path.c_str(), &status) < 0) return;
    if (status.st_dev == device && status.st_ino == inode) ::unlink(path.c_str());
}

void ServerState::close() {
    if (std::exchange(closed_, true)) return;
    socket_file_.remove();
    serving_ = false;
    // To the next turn: a listener may be in the ready queue.
    if (keeps_itself_) loop_.call_soon([keep = keeps_itself_] {});
    for (auto& listener : listeners_) {
        listener->retry.cancel();
        listener->stop();
        listener->socket.close();  // no shutdown(): other processes may listen on the same socket
    }
    loop_.core().poller->flush();  // a ring holds the socket until then, and with it the port
    if (serving_forever_ && !serving_forever_.done()) serving_forever_.cancel();
    if (!connections_.empty()) return;
    keeps_itself_ = nullptr;
    if (!ended_.done()) ended_.set_result();
}

void ServerState::attach(SocketTransport& transport) {
    transport.server_slot = static_cast<std::uint32_t>(connections_.size());
    connections_.push_back(&transport);
    if (!keeps_itself_) keeps_itself_ = shared_from_this();  // the protocol factory has closed the server
}

void ServerState::detach(SocketTransport& transport) {
    SocketTransport* last = connections_.back();
    connections_[transport.server_slot] = last;
    last->server_slot = transport.server_slot;
    connections_.pop_back();
    if (!closed_ || !connections_.empty()) return;
    auto keep = std::move(keeps_itself_);
    if (!ended_.done() && !loop_.is_closed()) ended_.set_result();
}

Coro<> ServerState::wait_closed(std::shared_ptr<ServerState> self) {
    // The wait of one caller may be cancelled without ending that of others.
    while (!self->ended_.done()) {
        Future<> mine = self->loop_.create_future();
        DoneCallback wake = self->ended_.add_done_callback([mine](Future<>) mutable {
            if (!mine.done()) mine.set_result();
        });
        auto outcome = co_await try_await(mine);
        if (!outcome) {
            self->ended_.remove_done_callback(wake);
            outcome.value();
        }
    }
}

Coro<> ServerState::serve_forever(std::shared_ptr<ServerState> self) {
    if (self->serving_forever_) throw RuntimeError("server is already being awaited on serve_forever()");
    if (self->closed_) throw RuntimeError("server is closed");
    self->start_serving();
    self->serving_forever_ = self->loop_.create_future();
    auto outcome = co_await try_await(self->serving_forever_);
    self->serving_forever_ = {};
    self->close();
    co_await wait_closed(self);
    outcome.value();
}

std::vector<std::shared_ptr<SocketTransport>> ServerState::live() const {
    std::vector<std::shared_ptr<SocketTransport>> transports;
    for (SocketTransport* transport : connections_) {
        if (auto alive = transport->weak_from_this().lock())
            transports.push_back(std::static_pointer_cast<SocketTransport>(alive));
    }
    return transports;
}

namespace {

/// The transport that the program writes to: over TLS not the socket's, which knows nothing of a close_notify.
std::shared_ptr<Transport> outermost(std::shared_ptr<Transport> transport) {
    while (auto tls = std::dynamic_pointer_cast<TlsProtocol>(transport->get_protocol()))
        transport = tls->app_transport();
    return transport;
}

}  // namespace

void ServerState::close_clients() {
    for (auto& transport : live()) outermost(transport)->close();
}

void ServerState::abort_clients() {
    for (auto& transport : live()) transport->abort();
}

std::vector<TransportSocket> ServerState::sockets() const {
    std::vector<TransportSocket> sockets;
    if (closed_) return sockets;
    for (const auto& listener : listeners_) sockets.emplace_back(listener->socket.fileno());
    return sockets;
}

// ---- making servers

namespace {

/// Nothing where the machine has no such address: one without IPv6 resolves "" to an address that it does not have.
std::optional<Socket> bind_one(EventLoop& loop, const Address& address, const ServerOptions& options) {
    std::optional<Socket> socket;
    try {
        socket.emplace(address.family(), SOCK_STREAM);
    } catch (const OSError& e) {
        debug_log(loop, LogLevel::WARNING, [&] {
            return fmt::format("create_server() failed to create a socket of family {}: {}", address.family(),
                               e.what());
        });
        return std::nullopt;
    }
    if (options.reuse_address) socket->setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port) socket->setsockopt(SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.keep_alive) socket->setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1);
    if (address.family() == AF_INET6) socket->setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (::bind(socket->fileno(), address.data(), address.length) == 0) return socket;
    int error = errno;
    std::string text = fmt::format("error while attempting to bind on address {}: {}",
                                   to_string(address.public_form()), std::strerror(error));
    if (error != EADDRNOTAVAIL) throw_os_error(error, text);
    debug_log(loop, LogLevel::WARNING, [&] { return text; });
    return std::nullopt;
}

Coro<> start_and_yield(std::shared_ptr<ServerState> state) {
    state->start_serving();
    // One turn, as asyncio: the descriptors are watched when the caller goes on.
    co_await sleep(Duration::zero());
}

Coro<Server> serve(EventLoop& loop, AnyProtocolFactory factory, std::vector<Socket> sockets, int backlog,
                   bool start_serving, std::optional<TlsSettings> tls, SocketFile file) {
    auto state = std::make_shared<ServerState>(loop, std::move(sockets), std::move(factory), backlog);
    state->clean_up(std::move(file));
    state->use_tls(std::move(tls));
    if (start_serving) co_await start_and_yield(state);
    co_return Server(std::move(state));
}

/// The loop that was asked; null: the one that runs.
EventLoop& given_or_running(EventLoop* loop) { return loop ? *loop : get_running_loop(); }

Coro<Server> serve_hosts(EventLoop* given_loop, AnyProtocolFactory factory, std::vector<std::string> hosts,
                         int port, ServerOptions options, TlsPlan plan) {
    EventLoop& loop = given_or_running(given_loop);
    check_port(port);
    auto tls = plan.settings();
    std::vector<Coro<std::vector<Address>>> lookups;
    for (std::string& host : hosts)
        lookups.push_back(resolve_stream(loop, std::move(host), port, options.family, options.flags, true));
    auto found = co_await gather(std::move(lookups));
    std::vector<Address> addresses;
    for (const auto& of_host : found) {
        for (const Address& address : of_host) {
            auto same = [&](const Address& other) {
                return other.length == address.length &&
                       std::memcmp(&other.storage, &address.storage, address.length) == 0;
            };
            if (std::ranges::none_of(addresses, same)) addresses.push_back(address);
        }
    }
    std::vector<Socket> sockets;
    std::string tried;
    for (const Address& address : addresses) {
        if (auto socket = bind_one(loop, address, options)) sockets.push_back(std::move(*socket));
        tried += (tried.empty() ? "" : ", ") + to_string(address.public_form());
    }
    if (sockets.empty()) throw OSError(fmt::format("could not bind on any address out of [{}]", tried));
    SocketFile no_file;
    co_return co_await serve(loop, std::move(factory), std::move(sockets), options.backlog,
                             options.start_serving, std::move(tls), std::move(no_file));
}

std::vector<Socket> only(Socket socket) {
    std::vector<Socket> sockets;
    sockets.push_back(std::move(socket));
    return sockets;
}

/// A socket bound to the path. One that an earlier server has left there is removed.
Socket bind_path(const std::string& path) {
    Address address = kernel_address({path}, AF_UNIX);
    bool is_file = !path.empty() && path.front() != '\0';
    struct stat status{};
    if (is_file && ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) &&
        ::unlink(path.c_str()) < 0)
        log(LogLevel::ERROR_,
            fmt::format("Unable to check or remove stale UNIX socket '{}': {}", path, std::strerror(errno)));
    Socket socket(AF_UNIX, SOCK_STREAM);
    if (::bind(socket.fileno(), address.data(), address.length) < 0) {
        int error = errno;
        throw_os_error(error, error == EADDRINUSE ? fmt::format("Address '{}' is already in use", path) : "");
    }
    return socket;
}

Coro<Server> serve_socket(EventLoop* given_loop, AnyProtocolFactory factory, Socket socket,
                          ServerOptions options, TlsPlan plan) {
    auto tls = plan.settings();
    if (!socket || socket.type() != SOCK_STREAM)
        throw ValueError(fmt::format("A Stream Socket was expected, got descriptor {}", socket.fileno()));
    auto sockets = only(std::move(socket));
    SocketFile no_file;
    co_return co_await serve(given_or_running(given_loop), std::move(factory), std::move(sockets),
                             options.backlog, options.start_serving, std::move(tls), std::move(no_file));
}

Coro<Server> serve_path(EventLoop* given_loop, AnyProtocolFactory factory, std::string path,
                        UnixServerOptions options, TlsPlan plan) {
    EventLoop& loop = given_or_running(given_loop);
    auto tls = plan.settings();
    Socket socket = bind_path(path);
    SocketFile file;
    struct stat status{};
    if (options.cleanup_socket && !path.empty() && path.front() != '\0' &&
        ::stat(path.c_str(), &status) == 0) {
        file.path = path;
        file.device = status.st_dev;
        file.inode = status.st_ino;
    }
    auto sockets = only(std::move(socket));
    co_return co_await serve(loop, std::move(factory), std::move(sockets), options.backlog,
                             options.start_serving, std::move(tls), std::move(file));
}

}  // namespace

Coro<Server> create_server(EventLoop* loop, AnyProtocolFactory factory, std::vector<std::string> hosts,
                           int port, const ServerOptions& options) {
    if (hosts.empty()) hosts.emplace_back();
    return serve_hosts(loop, std::move(factory), std::move(hosts), port, options, TlsPlan::of(options, true));
}

Coro<Server> create_server(EventLoop* loop, AnyProtocolFactory factory, Socket socket,
                           const ServerOptions& options) {
    return serve_socket(loop, std::move(factory), std::move(socket), options, TlsPlan::of(options, true));
}

Coro<Server> create_unix_server(EventLoop* loop, AnyProtocolFactory factory, std::string path,
                                const UnixServerOptions& options) {
    return serve_path(loop, std::move(factory), std::move(path), options, TlsPlan::of(options, true));
}

}  // namespace detail

void Server::close() { state_->close(); }
Coro<> Server::wait_closed() { return state_->wait_closed(); }
Coro<> Server::start_serving() { return detail::start_and_yield(state_); }
Coro<> Server::serve_forever() { return state_->serve_forever(); }
bool Server::is_serving() const { return state_->serving(); }
std::string Server::describe() const {
    std::string places;
    for (const TransportSocket& socket : sockets()) places += " " + to_string(socket.getsockname());
    return fmt::format("<Server {}{}>",
                       is_serving()     ? "serving on"
                       : places.empty() ? "closed"
                                        : "not serving yet on",
                       places);
}
void Server::close_clients() { state_->close_clients(); }
void Server::abort_clients() { state_->abort_clients(); }
std::vector<TransportSocket> Server::sockets() const { return state_->sockets(); }
EventLoop& Server::get_loop() const { return state_->loop(); }

Coro<> Server::aexit(std::exception_ptr) {
    state_->close();
    return state_->wait_closed();
}

}  // namespace coil
