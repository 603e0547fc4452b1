#include "io/socket_transport.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "io/server_state.hpp"

namespace coil::detail {

namespace {

constexpr std::size_t READ_SIZE = 256 * 1024;
constexpr std::size_t MAX_PARTS = 64;

/// One for all sockets of the thread's loop: bytes stay in it only during a call of data_received.
char* read_buffer() {
    static thread_local std::unique_ptr<char[]> buffer;
    if (!buffer) buffer = std::make_unique_for_overwrite<char[]>(READ_SIZE);
    return buffer.get();
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

SocketTransport::SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<Protocol> protocol,
                                 std::shared_ptr<ServerState> server)
    : loop_(loop),
      socket_(std::move(socket)),
      watch_(loop, socket_.fd(), *this),
      protocol_(std::move(protocol)),
      server_(std::move(server)) {
    int on = 1;
    // Not every stream socket is TCP; for the others it means nothing.
    ::setsockopt(socket_.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    loop.core().resources.push_back(*this);
    if (server_) server_->attach(*this);
}

SocketTransport::~SocketTransport() {
    if (linked()) unlink();
    if (server_) server_->detach(*this);
}

void SocketTransport::loop_closed() noexcept {
    log(LogLevel::WARNING, "unclosed transport: its loop was closed before it");
    auto keep = weak_from_this().lock();  // what follows may drop its last owner
    watch_.stop();
    socket_.close();
    closing_ = true;
    lost_ = true;
    protocol_connected_ = false;
    buffer_.clear();
    buffered_ = 0;
    protocol_ = nullptr;
    server_ = nullptr;
}

void SocketTransport::start() {
    loop_.call_soon([me = self()] {
        me->protocol_connected_ = true;
        me->protocol_->connection_made(me);
    });
    loop_.call_soon([me = self()] {
        if (me->closing_) return;
        me->reading_ = true;
        me->watch_.start();
    });
}

// ---- reading

void SocketTransport::Watching::run(Runnable& self, How how) {
    auto& watch = static_cast<Watching&>(self);
    watch.dequeued();
    if (how == How::DISCARD || !watch.started()) return;
    auto keep = watch.owner.self();  // a callback may drop the last handle
    SocketTransport& transport = *keep;
    if ((watch.ready & READABLE) && transport.is_reading() && !transport.eof_read_) transport.read_ready();
    if ((watch.ready & WRITABLE) && transport.buffered_ > 0 && !transport.lost_) transport.write_ready();
}

void SocketTransport::read_ready() {
    char* buffer = read_buffer();
    ssize_t size = ::recv(socket_.fd(), buffer, READ_SIZE, 0);
    if (size < 0) {
        int error = errno;
        if (error == EINTR) return watch_.queue();
        if (would_block(error)) {
            watch_.ready = static_cast<std::uint8_t>(watch_.ready & ~READABLE);
            return;
        }
        return fatal_error(make_os_error(error), "Fatal read error on socket transport");
    }
    if (size == 0) return read_ended();
    if (static_cast<std::size_t>(size) < READ_SIZE && !(watch_.ready & CLOSED)) {
        watch_.ready = static_cast<std::uint8_t>(watch_.ready & ~READABLE);
    } else {
        watch_.queue();  // there may be more, and no edge will say so
    }
    std::string_view data(buffer, static_cast<std::size_t>(size));
    call_protocol("data_received", [&] { protocol_->data_received(data); });
}

void SocketTransport::read_ended() {
    eof_read_ = true;
    bool keep_open = false;
    if (!call_protocol("eof_received", [&] { keep_open = protocol_->eof_received(); })) return;
    if (!keep_open) close();
}

void SocketTransport::pause_reading() { paused_ = true; }

void SocketTransport::resume_reading() {
    if (closing_ || !std::exchange(paused_, false)) return;
    if (reading_ && (watch_.ready & READABLE) && !eof_read_) watch_.queue();
}

// ---- writing

void SocketTransport::write(std::string_view data) { writelines(std::span(&data, 1)); }

void SocketTransport::writelines(std::span<const std::string_view> parts) {
    if (eof_written_) throw RuntimeError("Cannot call write() after write_eof()");
    std::size_t size = 0;
    for (std::string_view part : parts) size += part.size();
    if (size == 0) return;
    if (lost_) {
        constexpr unsigned WARN_FROM = 5;
        if (++writes_after_loss_ == WARN_FROM) log(LogLevel::WARNING, "write() on a connection that is lost");
        return;
    }
    std::size_t sent = 0;
    if (buffered_ == 0) {
        auto taken = send(parts);
        if (!taken) return;
        sent = *taken;
        if (sent == size) return;
    }
    buffer(parts, sent);
    if (buffered_ > high_) pause_protocol();
}

std::optional<std::size_t> SocketTransport::send(std::span<const std::string_view> parts) {
    ssize_t size = 0;
    std::size_t offered = 0;
    if (parts.size() == 1) {
        offered = parts[0].size();
        size = ::send(socket_.fd(), parts[0].data(), offered, MSG_NOSIGNAL);
    } else {
        std::array<iovec, MAX_PARTS> vectors;
        std::size_t count = std::min(parts.size(), MAX_PARTS);
        for (std::size_t i = 0; i < count; ++i) {
            vectors[i] = {const_cast<char*>(parts[i].data()), parts[i].size()};  // sendmsg only reads it
            offered += parts[i].size();
        }
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = count;
        size = ::sendmsg(socket_.fd(), &message, MSG_NOSIGNAL);
    }
    if (size < 0) {
        if (would_block(errno)) {
            size = 0;
        } else {
            fatal_error(make_os_error(errno), "Fatal write error on socket transport");
            return std::nullopt;
        }
    }
    if (static_cast<std::size_t>(size) < offered) {
        watch_.ready = static_cast<std::uint8_t>(watch_.ready & ~WRITABLE);
    } else {
        // More than one call may take is left: go on in the next turn.
        watch_.ready = static_cast<std::uint8_t>(watch_.ready | WRITABLE);
        if (parts.size() > MAX_PARTS && watch_.started()) watch_.queue();
    }
    return static_cast<std::size_t>(size);
}

void SocketTransport::buffer(std::span<const std::string_view> parts, std::size_t skip) {
    for (std::string_view part : parts) {
        std::size_t sent = std::min(skip, part.size());
        skip -= sent;
        part.remove_prefix(sent);
        if (part.empty()) continue;
        // Small pieces share a string: what one turn adds goes out in one call.
        constexpr std::size_t SHARE = 16 * 1024;
        if (buffered_ > 0 && buffer_.back().size() + part.size() <= SHARE) {
            buffer_.back().append(part);
        } else {
            buffer_.emplace_back(part);
        }
        buffered_ += part.size();
    }
    // Before reading begins (in connection_made) nothing watches yet.
    if (!watch_.started() && !lost_) watch_.start();
}

void SocketTransport::write_ready() {
    std::array<std::string_view, MAX_PARTS> parts;
    std::size_t count = 0;
    for (const std::string& piece : buffer_) {
        if (count == MAX_PARTS) break;
        parts[count++] = piece;
    }
    parts[0].remove_prefix(first_sent_);
    auto sent = send(std::span(parts.data(), count));
    if (!sent) return;
    drop_sent(*sent);
    if (buffered_ > 0 && (watch_.ready & WRITABLE)) watch_.queue();
    if (buffered_ <= low_) resume_protocol();
    if (buffered_ > 0) return;
    if (closing_) {
        if (!lost_) {
            lost_ = true;
            connection_lost(nullptr);
        }
    } else if (eof_written_) {
        ::shutdown(socket_.fd(), SHUT_WR);
    }
}

void SocketTransport::drop_sent(std::size_t size) {
    buffered_ -= size;
    while (size > 0) {
        std::size_t left = buffer_.front().size() - first_sent_;
        if (size < left) {
            first_sent_ += size;
            return;
        }
        size -= left;
        first_sent_ = 0;
        buffer_.pop_front();
    }
}

void SocketTransport::write_eof() {
    if (closing_ || eof_written_) return;
    eof_written_ = true;
    if (buffered_ == 0) ::shutdown(socket_.fd(), SHUT_WR);
}

void SocketTransport::set_write_buffer_limits(std::optional<std::size_t> high,
                                              std::optional<std::size_t> low) {
    std::size_t new_high = high ? *high : low ? 4 * *low : std::size_t{64 * 1024};
    std::size_t new_low = low ? *low : new_high / 4;
    if (new_high < new_low) throw ValueError("high must be >= low must be >= 0");
    high_ = new_high;
    low_ = new_low;
    if (buffered_ > high_) pause_protocol();
}

void SocketTransport::pause_protocol() {
    if (std::exchange(protocol_paused_, true)) return;
    try {
        protocol_->pause_writing();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler(
            {.message = "protocol.pause_writing() failed", .exception = std::current_exception()});
    }
}

void SocketTransport::resume_protocol() {
    if (!std::exchange(protocol_paused_, false)) return;
    try {
        protocol_->resume_writing();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler(
            {.message = "protocol.resume_writing() failed", .exception = std::current_exception()});
    }
}

// ---- closing

void SocketTransport::close() {
    if (std::exchange(closing_, true)) return;
    if (buffered_ == 0) queue_connection_lost(nullptr);
}

template <class Call>
bool SocketTransport::call_protocol(const char* name, Call&& call) {
    try {
        call();
        return true;
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        std::string message = std::string("Fatal error: protocol.") + name + "() call failed.";
        fatal_error(std::current_exception(), message.c_str());
        return false;
    }
}

void SocketTransport::fatal_error(std::exception_ptr error, const char* message) {
    bool of_the_system = false;
    try {
        std::rethrow_exception(error);
    } catch (const OSError& e) {
        of_the_system = true;
        if (loop_.get_debug()) log(LogLevel::DEBUG_, std::string(message) + ": " + e.what());
    } catch (...) {  // a protocol's own exception: reported below
    }
    if (!of_the_system) loop_.call_exception_handler({.message = message, .exception = error});
    force_close(std::move(error));
}

void SocketTransport::force_close(std::exception_ptr error) {
    if (lost_) return;
    buffer_.clear();
    buffered_ = 0;
    first_sent_ = 0;
    closing_ = true;
    queue_connection_lost(std::move(error));
}

void SocketTransport::queue_connection_lost(std::exception_ptr error) {
    lost_ = true;
    watch_.stop();
    loop_.call_soon([me = self(), error = std::move(error)] { me->connection_lost(error); });
}

void SocketTransport::connection_lost(const std::exception_ptr& error) {
    watch_.stop();
    if (watch_.queued())
        loop_.call_soon([keep = self()] {});  // runs behind the watch, which must not go before
    auto protocol = std::move(protocol_);
    auto server = std::move(server_);
    struct AtTheEnd {
        SocketTransport& transport;
        ServerState* server;
        ~AtTheEnd() {
            transport.socket_.close();
            if (transport.linked()) transport.unlink();
            if (server) server->detach(transport);
        }
    } at_the_end{*this, server.get()};
    if (protocol_connected_) protocol->connection_lost(error);
}

std::any SocketTransport::get_extra_info(std::string_view name) const {
    if (!socket_) return {};
    TransportSocket socket(socket_.fd());
    if (name == "socket") return socket;
    try {
        if (name == "peername") return socket.getpeername();
        if (name == "sockname") return socket.getsockname();
    } catch (const OSError&) {  // the peer is gone: there is no name any more
    }
    return {};
}

}  // namespace coil::detail
