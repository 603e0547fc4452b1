#include "io/socket_transport.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "base/inspection.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "io/file_sender.hpp"
#include "io/server_state.hpp"

namespace coil::detail {

void send_without_delay(int fd) noexcept {
    int on = 1;
    // Not every stream socket is TCP; for the others it means nothing.
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

SocketTransport::SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<StreamingProtocol> protocol,
                                 ServerState* server)
    : StreamTransport(loop, std::move(socket), std::move(protocol)), server_(server) {
    watch().is_socket = true;
    if (server_) {
        server_->attach(*this);
    } else {
        send_without_delay(fd());
    }
}

// The loop may be gone already: see loop_closed().
SocketTransport::~SocketTransport() { leave_server(); }

void SocketTransport::released() noexcept {
    if (!loop_.is_closed()) flushed();  // who sends a file is to see that the connection is lost
    leave_server();
}

void SocketTransport::leave_server() noexcept {
    if (ServerState* server = std::exchange(server_, nullptr)) server->detach(*this);
}

ssize_t SocketTransport::receive(std::span<std::byte> buffer) noexcept {
    return ::recv(fd(), buffer.data(), buffer.size(), 0);
}

ssize_t SocketTransport::send(std::span<const std::string_view> parts) noexcept {
    if (parts.size() == 1) return ::send(fd(), parts[0].data(), parts[0].size(), MSG_NOSIGNAL);
    std::array<iovec, WriteBuffer::MAX_PARTS> vectors;
    for (std::size_t i = 0; i < parts.size(); ++i)
        vectors[i] = {const_cast<char*>(parts[i].data()), parts[i].size()};  // sendmsg only reads it
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = parts.size();
    return ::sendmsg(fd(), &message, MSG_NOSIGNAL);
}

void SocketTransport::shut_writing() noexcept { ::shutdown(fd(), SHUT_WR); }

std::any SocketTransport::get_extra_info(std::string_view name) const {
    if (!socket()) return {};
    TransportSocket socket(fd());
    if (name == "socket") return socket;
    try {
        if (name == "peername") return socket.getpeername();
        if (name == "sockname") return socket.getsockname();
    } catch (const OSError&) {  // the peer is gone: there is no name any more
    }
    return {};
}

// ---- sending files

COIL_INSPECTION_ROWS(sendfile) = {
    {"coil::detail::SocketTransport::Writable", "sendfile", InspectionKind::NAME, {}},
};

/// Until the buffer is empty and the socket writable, or the connection lost.
class SocketTransport::Writable final : public LeafWaiter, public OperationTag {
  public:
    explicit Writable(SocketTransport& transport) noexcept : transport_(transport) {}
    ~Writable() {
        if (transport_.writable_ == this) transport_.writable_ = nullptr;
    }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        transport_.writable_ = this;
        // Before reading begins nothing watches yet.
        transport_.watch().start();
    }
    void await_resume() {
        if (transport_.writable_ == this) transport_.writable_ = nullptr;
        throw_if_cancelled();
    }
    std::string describe() const override { return "sendfile"; }

  private:
    SocketTransport& transport_;
};

void SocketTransport::flushed() {
    if (writable_ && writable_->pending()) writable_->wake();
}

Coro<std::size_t> SocketTransport::send_file(FileSender& sender) {
    auto keep = self();
    if (writable_) throw RuntimeError("sendfile is in progress on this transport already");
    // As asyncio: nothing is read meanwhile, so that the protocol does not write into the file.
    bool was_reading = is_reading();
    pause_reading();
    struct Resume {
        SocketTransport& transport;
        bool was_reading;
        ~Resume() {
            if (was_reading && !transport.lost()) transport.resume_reading();
        }
    } resume{*this, was_reading};
    while (!write_buffer().empty()) co_await Writable(*this);
    while (!sender.done()) {
        if (lost()) throw ConnectionError("Connection closed by peer");
        FileSender::Step step = sender.step(fd());
        if (step == FileSender::Step::UNSUPPORTED) sender.throw_unavailable();
        if (step == FileSender::Step::WAIT) {
            watch().forget(WRITABLE);
            co_await Writable(*this);
        }
    }
    co_return sender.total();
}

}  // namespace coil::detail
