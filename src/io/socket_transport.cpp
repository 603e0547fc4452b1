#include "io/socket_transport.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <any>
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

SocketTransport::SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<StreamingProtocol> protocol)
    : StreamTransport(loop, std::move(socket), std::move(protocol)) {
    watch().is_socket = true;
    send_without_delay(fd());
    Address peer;
    if (::getpeername(fd(), peer.data(), &peer.length) == 0) peer_ = CompactAddress(peer);
}

SocketTransport::SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<StreamingProtocol> protocol,
                                 ServerState& server, const Address& peer)
    : StreamTransport(loop, std::move(socket), std::move(protocol)), peer_(peer) {
    watch().is_socket = true;
    server.attach(*this);
    server_ = &server;
}

// The loop may be gone already: see loop_closed().
SocketTransport::~SocketTransport() { leave_server(); }

void SocketTransport::released() noexcept {
    if (!loop_.is_closed()) flushed();  // who sends a file is to see that the connection is lost
    leave_server();
}

void SocketTransport::keep_names() noexcept {
    Address own;
    if (::getsockname(fd(), own.data(), &own.length) < 0) return;
    try {
        make_extras().sockname = CompactAddress(own);
    } catch (const std::bad_alloc&) {  // then it has no name any more
    }
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
    auto unless_none = [](std::optional<SocketAddress> address) {
        return address ? std::any(std::move(*address)) : std::any();
    };
    if (name == "socket") return TransportSocket(fd());
    if (name == "peername") return unless_none(peer_.public_form());
    if (name == "sockname") {
        if (socket()) return TransportSocket(fd()).getsockname();
        if (extras()) return unless_none(extras()->sockname.public_form());
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
        if (transport_.flushing() == this) transport_.make_extras().flushing = nullptr;
    }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        transport_.make_extras().flushing = this;
        // Before reading begins nothing watches yet.
        transport_.watch().start();
    }
    void await_resume() {
        if (transport_.flushing() == this) transport_.make_extras().flushing = nullptr;
        throw_if_cancelled();
    }
    std::string describe() const override { return "sendfile"; }

  private:
    SocketTransport& transport_;
};

void SocketTransport::flushed() {
    if (LeafWaiter* waiter = flushing(); waiter && waiter->pending()) waiter->wake();
}

Coro<std::size_t> SocketTransport::send_file(FileSender& sender) {
    auto keep = self();
    if (flushing()) throw RuntimeError("sendfile is in progress on this transport already");
    make_extras();
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
