#include "coil/streams.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "coil/detail/wait_queue.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "coil/tasks.hpp"
#include "io/dns.hpp"
#include "io/server_state.hpp"
#include "io/socket_transport.hpp"

namespace coil {

namespace detail {

namespace {

/// A wait for one wake-up by the protocol; at most one object refers to it, through a pointer that it clears.
class StreamWait final : public LeafWaiter, public OperationTag {
  public:
    StreamWait(StreamWait*& place, const char* description) noexcept
        : place_(place), description_(description) {}
    ~StreamWait() {
        if (place_ == this) place_ = nullptr;
    }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        place_ = this;
    }
    void await_resume() {
        if (place_ == this) place_ = nullptr;
        throw_if_cancelled();
    }
    std::string describe() const override { return description_; }

  private:
    StreamWait*& place_;
    const char* description_;
};

}  // namespace

// ---- the reader's buffer

class StreamReaderState {
  public:
    explicit StreamReaderState(std::size_t limit) : limit_(limit) {
        if (limit == 0) throw ValueError("Limit cannot be <= 0");
    }

    std::string_view data() const noexcept { return std::string_view(buffer_).substr(begin_); }
    std::size_t limit() const noexcept { return limit_; }
    bool ended() const noexcept { return eof_; }
    bool at_eof() const noexcept { return eof_ && data().empty(); }
    const std::exception_ptr& exception() const noexcept { return exception_; }
    void check() const {
        if (exception_) std::rethrow_exception(exception_);
    }

    void feed(std::string_view bytes) {
        if (eof_) throw RuntimeError("feed_data after feed_eof");
        if (bytes.empty()) return;
        if (begin_ > 0 && begin_ * 2 >= buffer_.size()) {
            buffer_.erase(0, begin_);
            begin_ = 0;
        }
        buffer_.append(bytes);
        wake();
        if (transport_ && !paused_ && data().size() > 2 * limit_) {
            paused_ = true;
            transport_->pause_reading();
        }
    }
    void feed_eof() {
        eof_ = true;
        wake();
    }
    void set_exception(std::exception_ptr error) {
        exception_ = std::move(error);
        wake();
    }
    void set_transport(std::shared_ptr<Transport> transport) { transport_ = std::move(transport); }
    void forget_transport() noexcept { transport_ = nullptr; }

    /// Takes bytes out of the buffer.
    std::string take(std::size_t size) {
        std::string taken;
        if (begin_ == 0 && size == buffer_.size()) {
            taken = std::move(buffer_);
            buffer_.clear();
        } else {
            taken = std::string(data().substr(0, size));
            begin_ += size;
            forget_read();
        }
        resume_transport();
        return taken;
    }
    void skip(std::size_t size) {
        begin_ += size;
        forget_read();
        resume_transport();
    }

    /// Suspends until something is fed.
    Coro<> wait(const char* function) {
        if (waiting_)
            throw RuntimeError(fmt::format(
                "{}() called while another coroutine is already waiting for incoming data", function));
        if (std::exchange(paused_, false) && transport_) transport_->resume_reading();
        StreamWait waiter(waiting_, "StreamReader");
        co_await std::move(waiter);
    }

  private:
    void wake() noexcept {
        if (StreamWait* waiter = std::exchange(waiting_, nullptr); waiter && waiter->pending())
            waiter->wake();
    }
    void forget_read() {
        if (begin_ == buffer_.size()) {
            buffer_.clear();
            begin_ = 0;
        }
    }
    void resume_transport() {
        if (paused_ && data().size() <= limit_) {
            paused_ = false;
            if (transport_) transport_->resume_reading();
        }
    }

    std::size_t limit_;
    std::string buffer_;
    std::size_t begin_ = 0;  // bytes before it are read
    bool eof_ = false;
    bool paused_ = false;
    std::exception_ptr exception_;
    StreamWait* waiting_ = nullptr;
    std::shared_ptr<Transport> transport_;
};

// ---- the protocol between a transport and its streams

class StreamProtocol final : public Protocol, public std::enable_shared_from_this<StreamProtocol> {
  public:
    StreamProtocol(EventLoop& loop, std::shared_ptr<StreamReaderState> reader,
                   std::shared_ptr<const ClientConnected> callback)
        : loop_(loop),
          reader_(std::move(reader)),
          callback_(std::move(callback)),
          closed_(loop.create_future()) {}
    ~StreamProtocol() override { closed_.state().mark_retrieved(); }

    void connection_made(std::shared_ptr<Transport> transport) override;
    void connection_lost(std::exception_ptr error) override;
    void data_received(std::string_view data) override { reader_->feed(data); }
    bool eof_received() override {
        reader_->feed_eof();
        return true;
    }
    void pause_writing() override { paused_ = true; }
    void resume_writing() override {
        paused_ = false;
        drainers_.wake_all();
    }
    bool connected() const noexcept { return transport_ != nullptr || lost_; }

    Coro<> drain();
    const Future<>& closed() const noexcept { return closed_; }

  private:
    class Drain final : public WaitNode, public OperationTag {
      public:
        explicit Drain(WaitQueue& list) noexcept : WaitNode("StreamWriter.drain"), list_(list) {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> at) {
            LeafWaiter::suspend(at);
            list_.push(*this);
        }
        void await_resume() {
            leave_queue();
            throw_if_cancelled();
        }

      private:
        WaitQueue& list_;
    };

    EventLoop& loop_;
    std::shared_ptr<StreamReaderState> reader_;
    std::shared_ptr<const ClientConnected> callback_;  // of a server's connections
    std::shared_ptr<Transport> transport_;
    std::optional<StreamWriter> writer_;  // of a server's: the connection outlives its callback
    WaitQueue drainers_;
    Future<> closed_;
    std::exception_ptr error_;
    bool paused_ = false;
    bool lost_ = false;
};

struct StreamWriterState {
    StreamWriterState(EventLoop& its_loop, std::shared_ptr<Transport> its_transport,
                      std::shared_ptr<StreamProtocol> its_protocol,
                      std::shared_ptr<StreamReaderState> its_reader)
        : anchor(its_loop.core().anchor),
          transport(std::move(its_transport)),
          protocol(std::move(its_protocol)),
          reader(std::move(its_reader)) {}
    StreamWriterState(const StreamWriterState&) = delete;
    ~StreamWriterState() {
        if (transport->is_closing() || !anchor->loop || anchor->loop->is_closed()) return;
        log(LogLevel::WARNING, "unclosed StreamWriter: call close() and co_await wait_closed()");
        try {
            transport->close();
        } catch (...) {  // no memory for the callback: the loop's end closes it
        }
    }
    Ref<LoopAnchor> anchor;
    std::shared_ptr<Transport> transport;
    std::shared_ptr<StreamProtocol> protocol;
    std::shared_ptr<StreamReaderState> reader;
};

void StreamProtocol::connection_made(std::shared_ptr<Transport> transport) {
    transport_ = transport;
    reader_->set_transport(transport);
    if (!callback_) return;
    StreamWriter writer(std::make_shared<StreamWriterState>(loop_, transport, shared_from_this(), reader_));
    writer_ = writer;
    // The callable must outlive the coroutine that it makes: a lambda's captures are its own.
    auto serve = [](std::shared_ptr<const ClientConnected> callback, StreamReader reader,
                    StreamWriter stream_writer) -> Coro<> {
        co_await (*callback)(std::move(reader), std::move(stream_writer));
    };
    Task<> task = loop_.create_task(serve(callback_, StreamReader(reader_), writer));
    task.add_done_callback([&loop = loop_, transport](Task<> ended) {
        if (ended.cancelled()) return transport->close();
        if (std::exception_ptr error = ended.exception()) {
            loop.call_exception_handler({.message = "Unhandled exception in client_connected_cb",
                                         .exception = error,
                                         .details = {{"task", ended.state().describe()}}});
            transport->close();
        }
    });
}

void StreamProtocol::connection_lost(std::exception_ptr error) {
    lost_ = true;
    error_ = error;
    reader_->forget_transport();
    if (error) {
        reader_->set_exception(error);
        if (!closed_.done()) closed_.set_exception(error);
    } else {
        if (!reader_->ended()) reader_->feed_eof();
        if (!closed_.done()) closed_.set_result();
    }
    drainers_.wake_all();
    transport_ = nullptr;
    writer_.reset();
}

Coro<> StreamProtocol::drain() {
    auto keep = shared_from_this();
    if (lost_) throw ConnectionResetError("Connection lost");
    if (!paused_) co_return;
    Drain wait(drainers_);
    co_await std::move(wait);
    if (lost_ && error_) std::rethrow_exception(error_);
}

}  // namespace detail

// ---- StreamReader

StreamReader::StreamReader(std::size_t limit) : state_(std::make_shared<detail::StreamReaderState>(limit)) {}

bool StreamReader::at_eof() const { return state_->at_eof(); }
void StreamReader::feed_data(std::string_view data) { state_->feed(data); }
void StreamReader::feed_eof() { state_->feed_eof(); }
void StreamReader::set_exception(std::exception_ptr error) { state_->set_exception(std::move(error)); }
std::exception_ptr StreamReader::exception() const { return state_->exception(); }
void StreamReader::set_transport(std::shared_ptr<Transport> transport) {
    state_->set_transport(std::move(transport));
}

// The coroutines below keep the state, not the handle: the handle may go while they wait.

namespace {

using State = std::shared_ptr<detail::StreamReaderState>;

Coro<std::string> read_some(State state, std::ptrdiff_t n) {
    state->check();
    if (n == 0) co_return std::string();
    if (n < 0) {
        std::string all;
        for (;;) {
            while (state->data().empty() && !state->ended()) co_await state->wait("read");
            state->check();
            if (state->data().empty()) co_return all;
            std::string chunk = state->take(state->data().size());
            if (all.empty()) {
                all = std::move(chunk);
            } else {
                all += chunk;
            }
        }
    }
    if (state->data().empty() && !state->ended()) {
        co_await state->wait("read");
        state->check();
    }
    co_return state->take(std::min(state->data().size(), static_cast<std::size_t>(n)));
}

Coro<std::size_t> read_bytes_into(State state, std::span<std::byte> buffer) {
    state->check();
    if (buffer.empty()) co_return 0;
    if (state->data().empty() && !state->ended()) {
        co_await state->wait("read_into");
        state->check();
    }
    std::size_t size = std::min(state->data().size(), buffer.size());
    std::memcpy(buffer.data(), state->data().data(), size);
    state->skip(size);
    co_return size;
}

Coro<std::string> read_exactly(State state, std::size_t n) {
    state->check();
    while (state->data().size() < n) {
        if (state->ended()) throw IncompleteReadError(state->take(state->data().size()), n);
        co_await state->wait("readexactly");
        state->check();
    }
    co_return state->take(n);
}

Coro<std::string> read_until(State state, std::vector<std::string> separators) {
    if (separators.empty()) throw ValueError("Separator should contain at least one element");
    std::size_t shortest = separators.front().size();
    std::size_t longest = 0;
    for (const std::string& separator : separators) {
        shortest = std::min(shortest, separator.size());
        longest = std::max(longest, separator.size());
    }
    if (shortest == 0) throw ValueError("Separator should be at least one-byte string");
    state->check();

    // Where a separator may still begin; all before it was searched.
    std::size_t offset = 0;
    for (;;) {
        std::string_view data = state->data();
        if (data.size() - offset >= shortest) {
            std::size_t begin = std::string_view::npos;
            std::size_t end = std::string_view::npos;
            for (const std::string& separator : separators) {
                std::size_t found = data.find(separator, offset);
                if (found == std::string_view::npos || found + separator.size() > end) continue;
                if (found + separator.size() < end || found < begin) begin = found;
                end = found + separator.size();
            }
            if (end != std::string_view::npos) {
                if (begin > state->limit())
                    throw LimitOverrunError("Separator is found, but chunk is longer than limit", begin);
                co_return state->take(end);
            }
            offset = data.size() + 1 > longest ? data.size() + 1 - longest : 0;
            if (offset > state->limit())
                throw LimitOverrunError("Separator is not found, and chunk exceed the limit", offset);
        }
        if (state->ended()) throw IncompleteReadError(state->take(data.size()), std::nullopt);
        co_await state->wait("readuntil");
        state->check();
    }
}

Coro<std::string> read_line(State state) {
    std::exception_ptr overrun;
    std::vector<std::string> newline(1, "\n");
    auto outcome = co_await try_await(read_until(state, std::move(newline)));
    if (outcome) co_return std::move(outcome).value();
    try {
        std::rethrow_exception(outcome.exception());
    } catch (const IncompleteReadError& e) {
        co_return e.partial();
    } catch (const LimitOverrunError& e) {
        std::string_view rest = state->data().substr(std::min(e.consumed(), state->data().size()));
        if (rest.starts_with('\n')) {
            state->skip(e.consumed() + 1);
        } else {
            state->skip(state->data().size());
        }
        throw ValueError(e.what());
    }
}

Coro<std::optional<std::string>> next_line(State state) {
    std::string line = co_await read_line(std::move(state));
    if (line.empty()) co_return std::nullopt;
    co_return line;
}

}  // namespace

Coro<std::string> StreamReader::read(std::ptrdiff_t n) { return read_some(state_, n); }
Coro<std::size_t> StreamReader::read_into(std::span<std::byte> buffer) {
    return read_bytes_into(state_, buffer);
}
Coro<std::string> StreamReader::readline() { return read_line(state_); }
Coro<std::string> StreamReader::readexactly(std::size_t n) { return read_exactly(state_, n); }
Coro<std::string> StreamReader::readuntil(std::string separator) {
    std::vector<std::string> one;
    one.push_back(std::move(separator));
    return read_until(state_, std::move(one));
}
Coro<std::string> StreamReader::readuntil(std::vector<std::string> separators) {
    return read_until(state_, std::move(separators));
}
Coro<std::optional<std::string>> StreamReader::next() { return next_line(state_); }

// ---- StreamWriter

namespace {

Coro<> drain_writer(std::shared_ptr<detail::StreamWriterState> state) {
    state->reader->check();
    // Lets connection_lost come first, so that a loop of write() and drain() notices the end.
    if (state->transport->is_closing()) co_await sleep(Duration::zero());
    co_await state->protocol->drain();
}

Coro<> wait_writer_closed(std::shared_ptr<detail::StreamWriterState> state) {
    Future<> closed = state->protocol->closed();
    co_await closed;
}

}  // namespace

void StreamWriter::write(std::string_view data) { state_->transport->write(data); }
void StreamWriter::write(std::span<const std::byte> data) {
    write(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()));  // bytes are chars
}
void StreamWriter::writelines(std::span<const std::string_view> parts) {
    state_->transport->writelines(parts);
}
Coro<> StreamWriter::drain() { return drain_writer(state_); }
bool StreamWriter::can_write_eof() const { return state_->transport->can_write_eof(); }
void StreamWriter::write_eof() { state_->transport->write_eof(); }
void StreamWriter::close() { state_->transport->close(); }
bool StreamWriter::is_closing() const { return state_->transport->is_closing(); }
Coro<> StreamWriter::wait_closed() { return wait_writer_closed(state_); }
std::any StreamWriter::get_extra_info(std::string_view name) const {
    return state_->transport->get_extra_info(name);
}
std::shared_ptr<Transport> StreamWriter::transport() const { return state_->transport; }

// ---- connecting and serving

Coro<Streams> open_connection(std::string host, int port, ConnectionOptions options) {
    auto addresses = co_await detail::resolve(std::move(host), port, false);
    detail::Socket socket = co_await detail::connect_to_any(std::move(addresses));
    EventLoop& loop = get_running_loop();
    auto reader = std::make_shared<detail::StreamReaderState>(options.limit);
    auto protocol = std::make_shared<detail::StreamProtocol>(loop, reader, nullptr);
    auto transport = std::make_shared<detail::SocketTransport>(loop, std::move(socket), protocol, nullptr);
    StreamWriter writer(std::make_shared<detail::StreamWriterState>(loop, transport, protocol, reader));
    transport->start();
    // connection_made, the start of reading and this wait's end are queued in this order.
    Future<> started = loop.create_future();
    loop.call_soon([started]() mutable {
        if (!started.done()) started.set_result();
    });
    auto outcome = co_await try_await(started);
    if (!outcome) {
        transport->close();
        outcome.value();
    }
    co_return Streams{StreamReader(reader), std::move(writer)};
}

namespace {

detail::Socket bind_one(const detail::Address& address, const ServerOptions& options) {
    detail::Socket socket = detail::Socket::stream(address.family());
    if (options.reuse_address) socket.set_option(SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port) socket.set_option(SOL_SOCKET, SO_REUSEPORT, 1);
    if (address.family() == AF_INET6) socket.set_option(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (::bind(socket.fd(), address.data(), address.length) < 0) {
        int error = errno;
        throw_os_error(error, fmt::format("error while attempting to bind on address {}: {}",
                                          to_string(address.public_form()), std::strerror(error)));
    }
    return socket;
}

}  // namespace

Coro<Server> detail::start_stream_server(ClientConnected callback, std::string host, int port,
                                         ServerOptions options) {
    if (options.limit == 0) throw ValueError("Limit cannot be <= 0");
    auto addresses = co_await resolve(std::move(host), port, true);
    std::vector<Socket> sockets;
    for (const Address& address : addresses) {
        try {
            sockets.push_back(bind_one(address, options));
        } catch (const OSError& e) {
            // A machine without IPv6 resolves "" to an address that it does not have.
            bool unusable = e.code().value() == EAFNOSUPPORT || e.code().value() == EADDRNOTAVAIL;
            if (!unusable || addresses.size() == 1) throw;
        }
    }
    if (sockets.empty()) throw OSError("could not bind on any address");
    EventLoop& loop = get_running_loop();
    auto shared = std::make_shared<const ClientConnected>(std::move(callback));
    auto factory = [&loop, shared, limit = options.limit]() -> std::shared_ptr<Protocol> {
        return std::make_shared<StreamProtocol>(loop, std::make_shared<StreamReaderState>(limit), shared);
    };
    Server server(std::make_shared<ServerState>(loop, std::move(sockets), factory, options.backlog));
    if (options.start_serving) {
        server.start_serving();
        // One turn, as asyncio: the descriptors are watched when the caller goes on.
        co_await sleep(Duration::zero());
    }
    co_return server;
}

void BaseProtocol::connection_made(std::shared_ptr<Transport>) {}
void BaseProtocol::connection_lost(std::exception_ptr) {}

}  // namespace coil
