#include "coil/server.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "coil/exceptions.hpp"
#include "coil/futures.hpp"
#include "io/server_state.hpp"
#include "io/socket_transport.hpp"

namespace coil {

namespace detail {

ServerState::ServerState(EventLoop& loop, std::vector<Socket> sockets, ProtocolFactory factory, int backlog)
    : loop_(loop), factory_(std::move(factory)), backlog_(backlog), ended_(loop.create_future()) {
    for (Socket& socket : sockets) listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket)));
    loop.core().resources.push_back(*this);
}

ServerState::~ServerState() {
    for (auto& listener : listeners_) listener->retry.cancel();
    if (linked()) unlink();
}

void ServerState::loop_closed() noexcept {
    auto keep = std::move(keeps_itself_);
    listeners_.clear();
    closed_ = true;
    serving_ = false;
}

ServerState::Listener::Listener(ServerState& state, Socket listening)
    : QueuedWatch(state.loop_, listening.fd(), &Listener::run), server(state), socket(std::move(listening)) {}

void ServerState::Listener::run(Runnable& self, How how) {
    auto& listener = static_cast<Listener&>(self);
    listener.dequeued();
    if (how == How::DISCARD || !listener.started()) return;
    auto keep = listener.server.shared_from_this();
    listener.accept_some();
}

void ServerState::Listener::accept_some() {
    // As many as may have queued up, then the rest of the loop's work.
    for (int i = 0; i <= server.backlog_; ++i) {
        Socket accepted(::accept4(socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (accepted) {
            server.connected(std::move(accepted));
            if (!started()) return;  // the factory has closed the server
            continue;
        }
        switch (errno) {
            case EAGAIN:
                return;
            case EINTR:
            case ECONNABORTED:
            case EPROTO:
                continue;  // that connection is gone already
            case EMFILE:
            case ENFILE:
            case ENOBUFS:
            case ENOMEM:
                return out_of_resources(errno);
            default: {
                int error = errno;
                server.loop_.call_exception_handler(
                    {.message = "Accepting connections failed; the server no longer listens",
                     .exception = make_os_error(error)});
                return stop();
            }
        }
    }
    queue();
}

void ServerState::Listener::out_of_resources(int error) {
    server.loop_.call_exception_handler(
        {.message = "socket.accept() out of system resource", .exception = make_os_error(error)});
    constexpr std::chrono::seconds RETRY{1};
    stop();
    retry = server.loop_.call_later(RETRY, [this] { start(); });
}

void ServerState::connected(Socket socket) {
    try {
        auto transport =
            std::make_shared<SocketTransport>(loop_, std::move(socket), factory_(), shared_from_this());
        transport->start();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler({.message = "Error on transport creation for incoming connection",
                                      .exception = std::current_exception()});
    }
}

void ServerState::start_serving() {
    if (serving_) return;
    if (closed_) throw RuntimeError("server is closed");
    for (auto& listener : listeners_) {
        if (::listen(listener->socket.fd(), backlog_) < 0) throw_os_error(errno);
    }
    for (auto& listener : listeners_) listener->start();
    serving_ = true;
    keeps_itself_ = shared_from_this();
}

void ServerState::close() {
    if (std::exchange(closed_, true)) return;
    serving_ = false;
    // To the next turn: a listener may be in the ready queue.
    if (keeps_itself_) loop_.call_soon([keep = std::move(keeps_itself_)] {});
    for (auto& listener : listeners_) {
        listener->retry.cancel();
        listener->stop();
        // The ring may hold the descriptor a little longer: this frees the port now.
        ::shutdown(listener->socket.fd(), SHUT_RDWR);
        listener->socket.close();
    }
    loop_.core().poller->flush();
    if (serving_forever_ && !serving_forever_.done()) serving_forever_.cancel();
    if (connections_.empty() && !ended_.done()) ended_.set_result();
}

void ServerState::detach(SocketTransport& transport) {
    auto found = std::find(connections_.begin(), connections_.end(), &transport);
    if (found == connections_.end()) return;
    *found = connections_.back();
    connections_.pop_back();
    if (closed_ && connections_.empty() && !ended_.done() && !loop_.is_closed()) ended_.set_result();
}

Coro<> ServerState::wait_closed() {
    auto keep = shared_from_this();
    // The wait of one caller may be cancelled without ending that of others.
    while (!ended_.done()) {
        Future<> mine = loop_.create_future();
        DoneCallback wake = ended_.add_done_callback([mine](Future<>) mutable {
            if (!mine.done()) mine.set_result();
        });
        auto outcome = co_await try_await(mine);
        if (!outcome) {
            ended_.remove_done_callback(wake);
            outcome.value();
        }
    }
}

Coro<> ServerState::serve_forever() {
    auto keep = shared_from_this();
    if (serving_forever_) throw RuntimeError("server is already being awaited on serve_forever()");
    if (closed_) throw RuntimeError("server is closed");
    start_serving();
    serving_forever_ = loop_.create_future();
    auto outcome = co_await try_await(serving_forever_);
    serving_forever_ = {};
    close();
    co_await wait_closed();
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

void ServerState::close_clients() {
    for (auto& transport : live()) transport->close();
}

void ServerState::abort_clients() {
    for (auto& transport : live()) transport->abort();
}

std::vector<TransportSocket> ServerState::sockets() const {
    std::vector<TransportSocket> sockets;
    if (closed_) return sockets;
    for (const auto& listener : listeners_) sockets.emplace_back(listener->socket.fd());
    return sockets;
}

}  // namespace detail

void Server::close() { state_->close(); }
Coro<> Server::wait_closed() { return state_->wait_closed(); }
void Server::start_serving() { state_->start_serving(); }
Coro<> Server::serve_forever() { return state_->serve_forever(); }
bool Server::is_serving() const { return state_->serving(); }
void Server::close_clients() { state_->close_clients(); }
void Server::abort_clients() { state_->abort_clients(); }
std::vector<TransportSocket> Server::sockets() const { return state_->sockets(); }
EventLoop& Server::get_loop() const { return state_->loop(); }

Coro<> Server::aexit(std::exception_ptr) {
    state_->close();
    return state_->wait_closed();
}

}  // namespace coil
