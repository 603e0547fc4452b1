#include "io/stream_transport.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <typeinfo>

#include "base/type_name.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/futures.hpp"
#include "coil/log.hpp"
#include "loop/debug_log.hpp"
#include "loop/descriptors.hpp"
#include "loop/run_watch.hpp"

namespace coil {

void BaseProtocol::connection_lost(std::exception_ptr) {}
void StreamingProtocol::connection_made(std::shared_ptr<Transport>) {}
void Protocol::data_received(std::string_view) {}

namespace detail {

namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

std::span<std::byte> shared_read_buffer() {
    constexpr std::size_t SIZE = 256 * 1024;
    static thread_local std::unique_ptr<std::byte[]> buffer;
    if (!buffer) {
        // glibc gives the heap's end back to the kernel when 128 KiB of it are free, so a string of 64 KiB per message would fault
        // its pages in anew each time. A mapping that was freed raises that mark to twice its size: mallopt(3), dynamic threshold.
        buffer = std::make_unique_for_overwrite<std::byte[]>(8 * SIZE);
        buffer.reset();
        buffer = std::make_unique_for_overwrite<std::byte[]>(SIZE);
    }
    return {buffer.get(), SIZE};
}

std::pair<std::size_t, std::size_t> write_buffer_limits(std::optional<std::size_t> high,
                                                        std::optional<std::size_t> low) {
    std::size_t new_high = high ? *high : low ? 4 * *low : std::size_t{64 * 1024};
    std::size_t new_low = low ? *low : new_high / 4;
    if (new_high < new_low)
        throw ValueError(fmt::format("high ({}) must be >= low ({}) must be >= 0", new_high, new_low));
    return {new_low, new_high};
}

StreamTransport::StreamTransport(EventLoop& loop, Socket descriptor,
                                 std::shared_ptr<StreamingProtocol> protocol)
    : QueuedWatch(loop, descriptor.fileno(), &StreamTransport::run), socket_(std::move(descriptor)) {
    set_protocol(std::move(protocol));
    loop.core().resources.push_back(*this);
    own_descriptor(loop.core(), socket_.fileno(), true);
}

StreamTransport::~StreamTransport() {
    if (linked()) unlink();
    watch().stop();
    close_descriptor();
}

void StreamTransport::close_descriptor() noexcept {
    if (!socket_) return;
    own_descriptor(loop_.core(), socket_.fileno(), false);
    socket_.close();
}

void StreamTransport::let_descriptor_go(long own_handles) noexcept {
    if (weak_from_this().use_count() > own_handles) keep_names();
    close_descriptor();
}

void StreamTransport::set_protocol(std::shared_ptr<StreamingProtocol> protocol) {
    if (!protocol) throw ValueError("a transport needs a protocol");
    direct_reader_ = nullptr;  // belongs to the former one
    buffered_protocol_ = dynamic_cast<BufferedProtocol*>(protocol.get()) != nullptr;
    protocol_ = std::move(protocol);
    if (readable()) look_again();  // the former one may have left something
}

void StreamTransport::loop_closed() noexcept {
    log(LogLevel::WARNING, "unclosed transport: its loop was closed before it");
    auto keep = std::move(keeps_itself_);
    watch().stop();
    closing_ = true;
    lost_ = true;
    protocol_connected_ = false;
    buffer_.clear();
    let_descriptor_go(1);
    released();
    auto protocol = std::move(protocol_);
}

void StreamTransport::start(std::function<void()> on_ready) {
    keeps_itself_ = self();
    loop_.call_soon([me = self()] {
        if (me->lost_ && !me->protocol_) return;
        me->protocol_connected_ = true;
        me->protocol_->connection_made(me);
    });
    loop_.call_soon([me = self()] {
        if (me->closing_) return;
        me->reading_ = true;
        me->watch().start();
        if (me->watch().ready & READABLE) me->watch().queue();  // a write has started the watch before
    });
    if (on_ready) loop_.call_soon(std::move(on_ready));
}

Coro<Connected<Transport, StreamingProtocol>> start_transport(EventLoop& loop,
                                                              std::shared_ptr<StreamTransport> transport,
                                                              std::shared_ptr<StreamingProtocol> protocol) {
    Future<> ready = loop.create_future();
    transport->start([ready]() mutable {
        if (!ready.done()) ready.set_result();
    });
    auto outcome = co_await try_await(ready);
    if (!outcome) {
        transport->close();
        outcome.value();
    }
    debug_log(loop, LogLevel::DEBUG_, [&] { return "connected: " + transport->describe(); });
    co_return Connected<Transport, StreamingProtocol>{std::move(transport), std::move(protocol)};
}

// ---- reading

void StreamTransport::run(Runnable& self, How how) {
    auto& transport = static_cast<StreamTransport&>(self);
    QueuedWatch& watch = transport.watch();
    watch.dequeued();
    if (how == How::DISCARD || !watch.started()) return;
    auto keep = transport.self();  // a callback may drop the last handle
    if ((watch.ready & READABLE) && !transport.eof_read_ && !transport.lost_) {
        if (!(transport.direction_ & READS)) {
            if (watch.ready & CLOSED) transport.peer_closed();
        } else if (transport.is_reading() && transport.reading_) {
            DirectReader* reader = transport.direct_reader_;
            if (!reader || !reader->take_readable()) transport.read_ready();
        }
    }
    if ((watch.ready & WRITABLE) && !transport.lost_) transport.write_ready();
    describe_run([&] {
        const StreamingProtocol* protocol = transport.protocol_.get();
        return fmt::format("<{} on descriptor {} with {}>", transport.kind(), watch.fd,
                           protocol ? type_name(typeid(*protocol)) : std::string("no protocol any more"));
    });
}

void StreamTransport::read_ready() {
    std::span<std::byte> buffer;
    if (buffered_protocol_) {
        auto ask = [&] {
            buffer = buffered_protocol().get_buffer(0);
            if (buffer.empty()) throw RuntimeError("get_buffer() returned an empty buffer");
        };
        if (!call_protocol("get_buffer", ask)) return;
    } else {
        buffer = shared_read_buffer();
    }
    auto received = try_receive(buffer);
    if (!received) return;
    std::size_t count = *received;
    if (count == buffer.size()) watch().queue();  // there may be more, and no edge will say so
    if (buffered_protocol_) {
        call_protocol("buffer_updated", [&] { buffered_protocol().buffer_updated(count); });
    } else {
        std::string_view data(reinterpret_cast<const char*>(buffer.data()), count);
        call_protocol("data_received", [&] { static_cast<Protocol&>(*protocol_).data_received(data); });
    }
}

std::optional<std::size_t> StreamTransport::try_receive(std::span<std::byte> buffer) {
    ssize_t size = receive(buffer);
    if (size > 0) {
        if (watch().ready & CLOSED) {
            watch().queue();  // the end comes behind it
        } else if (static_cast<std::size_t>(size) < buffer.size()) {
            watch().forget(READABLE);
        }
        return static_cast<std::size_t>(size);
    }
    if (size == 0) {
        debug_log(loop_, LogLevel::DEBUG_, [&] { return describe() + " received EOF"; });
        eof_read_ = true;
        read_ended();
        return std::nullopt;
    }
    int error = errno;
    if (error == EINTR) {
        watch().queue();
    } else if (would_block(error)) {
        watch().forget(READABLE);
    } else {
        fatal_os_error(error, "Fatal read error");
    }
    return std::nullopt;
}

std::optional<std::size_t> StreamTransport::receive_now(std::span<std::byte> buffer) {
    if (!readable()) return std::nullopt;
    auto keep = self();
    return try_receive(buffer);
}

void StreamTransport::read_ended() {
    bool keep_open = false;
    if (!call_protocol("eof_received", [&] { keep_open = protocol_->eof_received(); })) return;
    if (!keep_open) close();
}

void StreamTransport::pause_reading() {
    if (!(direction_ & READS)) throw RuntimeError("this transport is for writing only");
    paused_ = true;
    if (closing_) return;  // the loop may be gone
    debug_log(loop_, LogLevel::DEBUG_, [&] { return describe() + " pauses reading"; });
}

void StreamTransport::resume_reading() {
    if (!(direction_ & READS)) throw RuntimeError("this transport is for writing only");
    if (closing_ || !paused_) return;
    paused_ = false;
    debug_log(loop_, LogLevel::DEBUG_, [&] { return describe() + " resumes reading"; });
    if (reading_ && (watch().ready & READABLE) && !eof_read_) watch().queue();
}

// ---- writing

void StreamTransport::write(std::string_view data) { writelines(std::span(&data, 1)); }

void StreamTransport::writelines(std::span<const std::string_view> parts) {
    if (!(direction_ & WRITES)) throw RuntimeError("this transport is for reading only");
    if (eof_written_) throw RuntimeError("Cannot call write() after write_eof()");
    std::size_t size = 0;
    for (std::string_view part : parts) size += part.size();
    if (size == 0) return;
    if (lost_ || (closing_ && !(direction_ & READS))) {
        constexpr std::uint8_t WARN_FROM = 5;
        if (writes_after_loss_ < WARN_FROM && ++writes_after_loss_ == WARN_FROM)
            log(LogLevel::WARNING, fmt::format("write() on a {} that is lost", kind()));
        return;
    }
    std::size_t sent = 0;
    if (buffer_.empty()) {
        auto taken = try_send(parts.first(std::min(parts.size(), WriteBuffer::MAX_PARTS)));
        if (!taken) return;
        sent = *taken;
        if (sent == size) return;
    }
    for (std::string_view part : parts) {
        std::size_t skipped = std::min(sent, part.size());
        sent -= skipped;
        buffer_.append(part.substr(skipped));
    }
    if (watch().ready & WRITABLE) {
        if (watch().started()) watch().queue();  // more parts than one call takes
    }
    // Before reading begins (in connection_made) nothing watches yet.
    if (!watch().started()) watch().start();
    if (buffer_.size() > limits().high) pause_protocol();
}

std::optional<std::size_t> StreamTransport::try_send(std::span<const std::string_view> parts) {
    std::size_t offered = 0;
    for (std::string_view part : parts) offered += part.size();
    ssize_t size = send(parts);
    if (size < 0) {
        if (!would_block(errno)) {
            fatal_os_error(errno, "Fatal write error");
            return std::nullopt;
        }
        size = 0;
    }
    auto count = static_cast<std::size_t>(size);
    if (count < offered) {
        watch().forget(WRITABLE);
    } else {
        watch().ready = static_cast<std::uint8_t>(watch().ready | WRITABLE);
    }
    return count;
}

void StreamTransport::write_ready() {
    if (buffer_.empty()) return flushed();
    std::array<std::string_view, WriteBuffer::MAX_PARTS> parts;
    std::size_t count = buffer_.peek(parts);
    auto sent = try_send(std::span(parts.data(), count));
    if (!sent) return;
    buffer_.drop(*sent);
    if (!buffer_.empty() && (watch().ready & WRITABLE)) watch().queue();
    if (buffer_.size() <= limits().low) resume_protocol();
    if (!buffer_.empty()) return;
    if (closing_) {
        if (!lost_) {
            lost_ = true;
            connection_lost(nullptr);
        }
    } else {
        if (eof_written_) shut_writing();
        flushed();
    }
}

void StreamTransport::write_eof() {
    if (closing_ || eof_written_) return;
    eof_written_ = true;
    if (buffer_.empty()) shut_writing();
}

void StreamTransport::set_write_buffer_limits(std::optional<std::size_t> high,
                                              std::optional<std::size_t> low) {
    auto [new_low, new_high] = write_buffer_limits(high, low);
    make_extras().limits = {new_low, new_high};
    if (buffer_.size() > limits().high) pause_protocol();
}

void StreamTransport::pause_protocol() {
    if (protocol_paused_) return;
    protocol_paused_ = true;
    try {
        protocol_->pause_writing();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler(
            {.message = "protocol.pause_writing() failed", .exception = std::current_exception()});
    }
}

void StreamTransport::resume_protocol() {
    if (!protocol_paused_) return;
    protocol_paused_ = false;
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

void StreamTransport::close() {
    if (closing_) return;
    closing_ = true;
    if (buffer_.empty()) queue_connection_lost(nullptr);
}

template <class Call>
bool StreamTransport::call_protocol(const char* name, Call&& call) {
    try {
        call();
        return true;
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        fatal_error(std::current_exception(), fmt::format("Fatal error: protocol.{}() call failed.", name));
        return false;
    }
}

void StreamTransport::fatal_os_error(int errnum, const char* what) {
    std::exception_ptr error = make_os_error(errnum);
    debug_log(loop_, LogLevel::DEBUG_,
              [&] { return fmt::format("{} on {}: {}", what, kind(), describe_exception(error)); });
    force_close(std::move(error));
}

void StreamTransport::fatal_error(std::exception_ptr error, const std::string& message) {
    bool of_the_system = false;
    try {
        std::rethrow_exception(error);
    } catch (const OSError& e) {
        of_the_system = true;
        debug_log(loop_, LogLevel::DEBUG_, [&] { return message + ": " + e.what(); });
    } catch (...) {  // a protocol's own exception: reported below
    }
    if (!of_the_system) loop_.call_exception_handler({.message = message, .exception = error});
    force_close(std::move(error));
}

void StreamTransport::force_close(std::exception_ptr error) {
    if (lost_) return;
    buffer_.clear();
    closing_ = true;
    queue_connection_lost(std::move(error));
}

void StreamTransport::queue_connection_lost(std::exception_ptr error) {
    lost_ = true;
    watch().stop();
    loop_.call_soon([me = self(), error = std::move(error)] { me->connection_lost(error); });
}

void StreamTransport::connection_lost(const std::exception_ptr& error) {
    if (!protocol_) return;  // the loop was closed
    watch().stop();
    if (watch().queued())
        loop_.call_soon([keep = self()] {});  // runs behind the watch, which must not go before
    auto keep = std::move(keeps_itself_);
    auto protocol = std::move(protocol_);
    struct AtTheEnd {
        StreamTransport& transport;
        ~AtTheEnd() {
            transport.let_descriptor_go(2);  // `keep`, and whoever calls this
            if (transport.linked()) transport.unlink();
            transport.released();
        }
    } at_the_end{*this};
    if (!protocol_connected_) return;
    try {  // write_ready() calls this, too: what is thrown there nobody else would catch
        protocol->connection_lost(error);
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler(
            {.message = "protocol.connection_lost() failed", .exception = std::current_exception()});
    }
}

}  // namespace detail

}  // namespace coil
