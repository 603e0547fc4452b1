#include "coil/streams.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <any>
#include <cstring>
#include <typeinfo>

#include "base/inspection.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "coil/tasks.hpp"
#include "io/connections.hpp"
#include "io/queue_wait.hpp"
#include "io/stream_transport.hpp"
#include "io/uninitialized_string.hpp"

namespace coil {

namespace detail {

// ---- the reader's buffer

class StreamReaderState final : public DirectReader {
  public:
    explicit StreamReaderState(std::size_t limit) : limit_(limit) {
        if (limit == 0) throw ValueError("Limit cannot be <= 0");
    }
    StreamReaderState(const StreamReaderState&) = delete;
    StreamReaderState& operator=(const StreamReaderState&) = delete;
    ~StreamReaderState() { forget_transport(); }

    std::string_view data() const noexcept { return std::string_view(buffer_).substr(begin_); }
    std::size_t limit() const noexcept { return limit_; }
    /// Throws where the stream was cut off.
    bool ended() const {
        if (cut_off_) std::rethrow_exception(exception_);
        return eof_;
    }
    bool eof() const noexcept { return eof_; }
    bool at_eof() const noexcept { return eof_ && data().empty(); }
    const std::exception_ptr& exception() const noexcept { return exception_; }
    void check() const {
        if (exception_ && !cut_off_) std::rethrow_exception(exception_);
    }

    void feed(std::string_view bytes) {
        if (eof_) throw RuntimeError("feed_data after feed_eof");
        if (bytes.empty()) return;
        store(bytes);
        wake();
    }
    void feed_eof() {
        eof_ = true;
        wake();
    }
    void set_exception(std::exception_ptr error) {
        exception_ = std::move(error);
        cut_off_ = false;
        wake();
    }
    /// The end of a stream that should have gone on: thrown once the data before it are read.
    void set_cut_off(std::exception_ptr error) {
        exception_ = std::move(error);
        cut_off_ = true;
        wake();
    }
    void set_transport(std::shared_ptr<Transport> transport) {
        forget_transport();
        transport_ = std::move(transport);
        direct_ = dynamic_cast<StreamTransport*>(transport_.get());
        if (direct_) direct_->set_direct_reader(this);
    }
    void forget_transport() noexcept {
        if (direct_) direct_->set_direct_reader(nullptr);
        direct_ = nullptr;
        transport_ = nullptr;
    }

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

    /// RuntimeError if somebody waits already.
    void begin_wait(std::string_view function) {
        if (waiting_) {
            function.remove_prefix(function.find('.') + 1);
            throw RuntimeError(fmt::format(
                "{}() called while another coroutine is already waiting for incoming data", function));
        }
        if (std::exchange(paused_, false) && transport_) transport_->resume_reading();
    }
    /// Wakes it when something is fed, or with `directly` when receive() may find something.
    void enlist(StreamWait& wait, bool directly) noexcept {
        waiting_directly_ = directly;
        waiting_ = &wait;
        if (!directly && readable()) direct_->look_again();
    }
    /// Null: of no transport.
    const Transport* transport() const noexcept { return transport_.get(); }
    void forget(const StreamWait& wait) noexcept {
        if (waiting_ == &wait) waiting_ = nullptr;
    }
    bool readable() const noexcept { return direct_ && direct_->readable_for(*this); }

    /// Receives at once, if there is something. What does not fit is kept.
    std::string receive(std::size_t most) {
        if (std::min(most, expected_) >= WORTH_ITS_OWN_CALL) return receive_expected(most);
        std::span<std::byte> buffer = shared_read_buffer();
        auto received = direct_->receive_now(buffer);
        if (!received) return {};
        expected_ = *received;
        std::string_view bytes(reinterpret_cast<const char*>(buffer.data()), *received);
        if (bytes.size() > most) store(bytes.substr(most));
        return std::string(bytes.substr(0, most));
    }
    std::size_t receive_into(std::span<std::byte> target) {
        if (target.size() >= WORTH_ITS_OWN_CALL) return direct_->receive_now(target).value_or(0);
        std::string bytes = receive(target.size());
        std::memcpy(target.data(), bytes.data(), bytes.size());
        return bytes.size();
    }

    bool take_readable() noexcept override {
        if (!waiting_ || !waiting_directly_ || !waiting_->pending()) return false;
        wake();
        return true;
    }

  private:
    template <class>
    friend struct LayoutOf;

    /// Straight into the string, without a copy, where as much should come as the last time.
    std::string receive_expected(std::size_t most) {
        // Some more than that: a short read says that there is nothing behind it.
        std::span<std::byte> buffer = shared_read_buffer();
        std::size_t room = std::min({most, expected_ + expected_ / 16, buffer.size()});
        std::string bytes = uninitialized_string(room);
        auto received = direct_->receive_now(std::as_writable_bytes(std::span(bytes)));
        if (!received) return {};
        expected_ = *received;
        bytes.resize(*received);
        if (*received < room / 2) bytes.shrink_to_fit();
        if (*received < std::min(most, buffer.size()) && *received == room && readable()) {
            std::size_t more = direct_->receive_now(buffer.first(buffer.size() - room)).value_or(0);
            std::string_view rest(reinterpret_cast<const char*>(buffer.data()), more);
            expected_ += more;
            bytes += rest.substr(0, most - room);
            if (more > most - room) store(rest.substr(most - room));
        }
        return bytes;
    }
    void store(std::string_view bytes) {
        if (begin_ > 0 && begin_ * 2 >= buffer_.size()) {
            buffer_.erase(0, begin_);
            begin_ = 0;
        }
        buffer_.append(bytes);
        if (transport_ && !paused_ && data().size() > 2 * limit_) {
            paused_ = true;
            transport_->pause_reading();
        }
    }
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

    /// Where a copy costs more than a call of the kernel for less than it has.
    static constexpr std::size_t WORTH_ITS_OWN_CALL = 2048;

    std::size_t limit_;
    std::string buffer_;
    std::size_t begin_ = 0;     // bytes before it are read
    std::size_t expected_ = 0;  // what receive() found the last time
    std::exception_ptr exception_;
    StreamWait* waiting_ = nullptr;
    std::shared_ptr<Transport> transport_;
    StreamTransport* direct_ = nullptr;  // transport_, if it has a descriptor of its own
    bool waiting_directly_ = false;
    bool cut_off_ = false;  // exception_ is thrown behind the data
    bool eof_ = false;
    bool paused_ = false;
};

// ---- waiting for data

StreamWait::StreamWait(std::shared_ptr<StreamReaderState> state, const char* function) noexcept
    : Runnable(&StreamWait::run), state_(std::move(state)), function_(function) {}

StreamWait::~StreamWait() {
    if (suspended()) state_->forget(*this);
}

std::string StreamWait::describe() const {
    const Transport* transport = state_->transport();
    auto peer = transport ? transport->get_extra_info("peername") : std::any();
    const auto* address = std::any_cast<SocketAddress>(&peer);
    return address ? fmt::format("{} from {}", function_, to_string(*address)) : std::string(function_);
}

bool StreamWait::over() noexcept {
    try {
        if (finish()) return true;
        state_->begin_wait(function_);
        return false;
    } catch (...) {
        error_ = std::current_exception();
        return true;
    }
}

void StreamWait::enlist() noexcept { state_->enlist(*this, directly()); }

void StreamWait::run(Runnable& self, How how) {
    if (how == How::DISCARD) return;
    auto& wait = static_cast<StreamWait&>(self);
    if (wait.task().cancellation_due() || wait.over()) return wait.task().step();
    wait.wait_again();
    wait.enlist();
}

void StreamWait::check() {
    if (suspended()) {
        state_->forget(*this);
        throw_if_cancelled();
    }
    if (error_) std::rethrow_exception(error_);
}

bool StreamRead::finish() {
    StreamReaderState& reader = state();
    reader.check();
    switch (until_) {
        case Until::SOMETHING:
            if (size_ == 0) return true;
            while (reader.data().empty() && !reader.ended()) {
                if (!reader.readable()) return false;
                result_ = reader.receive(size_);
                if (!result_.empty()) return true;
                reader.check();
            }
            result_ = reader.take(std::min(reader.data().size(), size_));
            return true;
        case Until::SIZE:
            if (reader.data().size() < size_) {
                if (!reader.ended()) return false;
                throw IncompleteReadError(reader.take(reader.data().size()), size_);
            }
            result_ = reader.take(size_);
            return true;
        case Until::END:
            for (;;) {
                if (reader.data().empty()) return reader.ended();
                std::string chunk = reader.take(reader.data().size());
                if (result_.empty()) {
                    result_ = std::move(chunk);
                } else {
                    result_ += chunk;
                }
            }
    }
    return true;
}

bool StreamReadInto::finish() {
    StreamReaderState& reader = state();
    reader.check();
    if (buffer_.empty()) return true;
    while (reader.data().empty() && !reader.ended()) {
        if (!reader.readable()) return false;
        received_ = reader.receive_into(buffer_);
        if (received_ > 0) return true;
        reader.check();
    }
    received_ = std::min(reader.data().size(), buffer_.size());
    std::memcpy(buffer_.data(), reader.data().data(), received_);
    reader.skip(received_);
    return true;
}

namespace {

/// For coroutines that look for themselves: until the reader has been fed.
class UntilFed final : public StreamWait, public OperationTag {
  public:
    UntilFed(std::shared_ptr<StreamReaderState> state, const char* function) noexcept
        : StreamWait(std::move(state), function) {}
    bool await_ready() noexcept { return over(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) noexcept {
        suspend(at);
    }
    void await_resume() { check(); }

  private:
    bool finish() override { return std::exchange(waited_, true); }
    bool waited_ = false;
};

}  // namespace

template <>
struct LayoutOf<StreamTransport> {
    static constexpr std::size_t descriptor =
        offsetof(StreamTransport, socket_);  // a socket is its descriptor
};
static_assert(sizeof(Socket) == sizeof(int));
template <>
struct LayoutOf<StreamReaderState> {
    static constexpr std::size_t transport = offsetof(StreamReaderState, direct_);
};
template <>
struct LayoutOf<StreamWait> : StreamWait {
    static consteval InspectionPath function() { return {offsetof(LayoutOf, function_)}; }
    static consteval InspectionPath descriptor() {
        return {offsetof(LayoutOf, state_), LayoutOf<StreamReaderState>::transport,
                LayoutOf<StreamTransport>::descriptor};
    }

  protected:
    ~LayoutOf() = default;
};
COIL_INSPECTION_ROWS(stream) = {
    {"coil::detail::StreamRead", "", InspectionKind::TEXT, LayoutOf<StreamWait>::function()},
    {"coil::detail::StreamRead", "on descriptor", InspectionKind::DESCRIPTOR,
     LayoutOf<StreamWait>::descriptor()},
    {"coil::detail::(anonymous namespace)::UntilFed", "", InspectionKind::TEXT,
     LayoutOf<StreamWait>::function()},
    {"coil::detail::(anonymous namespace)::UntilFed", "on descriptor", InspectionKind::DESCRIPTOR,
     LayoutOf<StreamWait>::descriptor()},
};

// ---- the writer

struct StreamWriterState {
    StreamWriterState(EventLoop& its_loop, std::shared_ptr<Transport> its_transport,
                      std::shared_ptr<StreamReaderProtocol> its_protocol,
                      std::shared_ptr<StreamReaderState> its_reader)
        : anchor(its_loop.core().anchor),
          transport(std::move(its_transport)),
          protocol(std::move(its_protocol)),
          reader(std::move(its_reader)) {}
    StreamWriterState(const StreamWriterState&) = delete;
    StreamWriterState& operator=(const StreamWriterState&) = delete;
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
    std::shared_ptr<StreamReaderProtocol> protocol;
    std::shared_ptr<StreamReaderState> reader;
};

}  // namespace detail

// ---- the protocol between a transport and its streams

StreamReaderProtocol::StreamReaderProtocol(StreamReader reader, ClientConnected callback)
    : StreamReaderProtocol(
          std::move(reader),
          callback ? std::make_shared<const ClientConnected>(std::move(callback)) : nullptr) {}

StreamReaderProtocol::StreamReaderProtocol(StreamReader reader,
                                           std::shared_ptr<const ClientConnected> callback)
    : reader_(reader.state()), callback_(std::move(callback)) {
    get_running_loop();  // RuntimeError without one
}

StreamReaderProtocol::~StreamReaderProtocol() = default;

void StreamReaderProtocol::connection_made(std::shared_ptr<Transport> transport) {
    if (!callback_ && reader_.use_count() == 1) {
        get_running_loop().call_exception_handler(
            {.message = "An open stream was garbage collected prior to establishing network connection; call "
                        "\"stream.close()\" explicitly."});
        transport->abort();
        return;
    }
    transport_ = transport;
    reader_->set_transport(transport);
    over_tls_ = transport->get_extra_info("sslcontext").has_value();
    if (!callback_) return;
    EventLoop& loop = get_running_loop();
    writer_ =
        std::make_shared<detail::StreamWriterState>(loop, std::move(transport), shared_from_this(), reader_);
    // The callable must outlive the coroutine that it makes (a lambda's captures are its own): the protocol holds both.
    loop.create_task(call_back(StreamWriter(writer_)), {}, std::source_location())
        .add_done_callback(
            [keep = shared_from_this()](Task<> ended) { keep->called_back(std::move(ended)); });
}

void StreamReaderProtocol::called_back(Task<> task) {
    if (!task.cancelled()) {
        std::exception_ptr error = task.exception();
        if (!error) return;
        task.get_loop().call_exception_handler({.message = "Unhandled exception in client_connected_cb",
                                                .exception = std::move(error),
                                                .details = {{"task", task.state().describe()}}});
    }
    if (transport_) transport_->close();
}

Coro<> StreamReaderProtocol::call_back(StreamWriter writer) {
    std::exception_ptr error;
    try {
        return (*callback_)(StreamReader(reader_), std::move(writer));
    } catch (...) {  // a callable that is no coroutine itself: its error is the task's too
        error = std::current_exception();
    }
    return [](std::exception_ptr thrown) -> Coro<> {
        std::rethrow_exception(thrown);
        co_return;
    }(error);
}

std::span<std::byte> StreamReaderProtocol::get_buffer(std::size_t) { return detail::shared_read_buffer(); }

void StreamReaderProtocol::buffer_updated(std::size_t size) {
    reader_->feed({reinterpret_cast<const char*>(detail::shared_read_buffer().data()), size});
}

bool StreamReaderProtocol::eof_received() {
    reader_->feed_eof();
    return !over_tls_;  // TLS has no half-closed connections
}

void StreamReaderProtocol::replace_transport(std::shared_ptr<Transport> transport) {
    if (lost_) return;
    over_tls_ = transport->get_extra_info("sslcontext").has_value();
    reader_->set_transport(transport);
    transport_ = std::move(transport);
}

void StreamReaderProtocol::resume_writing() {
    paused_ = false;
    drainers_.wake_all();
}

void StreamReaderProtocol::connection_lost(std::exception_ptr error) {
    lost_ = true;
    error_ = error;
    reader_->forget_transport();
    if (error) {
        const std::type_info* type = detail::exception_type(error);
        if (type && *type == typeid(SslEofError)) {
            reader_->set_cut_off(error);
        } else {
            reader_->set_exception(error);
        }
    } else if (!reader_->ended()) {
        reader_->feed_eof();
    }
    closers_.wake_all();
    drainers_.wake_all();
    transport_ = nullptr;
    writer_ = nullptr;
}

Coro<> StreamReaderProtocol::drain(std::shared_ptr<StreamReaderProtocol> self) {
    if (self->lost_) throw ConnectionResetError("Connection lost");
    if (!self->paused_) co_return;
    detail::QueueWait wait(self->drainers_, "StreamWriter.drain");
    co_await std::move(wait);
    if (self->lost_ && self->error_) std::rethrow_exception(self->error_);
}

// A list, not asyncio's future: who stops waiting does not end the waits of others, now or later.
Coro<> StreamReaderProtocol::wait_closed(std::shared_ptr<StreamReaderProtocol> self) {
    if (!self->lost_) {
        detail::QueueWait wait(self->closers_, "StreamWriter.wait_closed");
        co_await std::move(wait);
    }
    if (self->error_) std::rethrow_exception(self->error_);
}

// ---- StreamReader

StreamReader::StreamReader(std::size_t limit) : state_(std::make_shared<detail::StreamReaderState>(limit)) {}

void StreamReader::throw_no_stream(const char* which) {
    throw RuntimeError(fmt::format("this {} belongs to no stream", which));
}

bool StreamReader::at_eof() const { return state()->at_eof(); }
std::string StreamReader::describe() const {
    if (!state_) return "<StreamReader of no stream>";
    return fmt::format(
        "<StreamReader {} bytes{}{}>", state_->data().size(), state_->eof() ? ", at the end" : "",
        state_->exception() ? ", failed with " + describe_exception(state_->exception()) : std::string());
}
void StreamReader::feed_data(std::string_view data) { state()->feed(data); }
void StreamReader::feed_eof() { state()->feed_eof(); }
void StreamReader::set_exception(std::exception_ptr error) { state()->set_exception(std::move(error)); }
std::exception_ptr StreamReader::exception() const { return state()->exception(); }
void StreamReader::set_transport(std::shared_ptr<Transport> transport) {
    state()->set_transport(std::move(transport));
}

// The coroutines below keep the state, not the handle: the handle may go while they wait.

namespace {

using State = std::shared_ptr<detail::StreamReaderState>;

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
        co_await detail::UntilFed(state, "StreamReader.readuntil");
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

detail::StreamRead StreamReader::read(std::ptrdiff_t n) {
    using Until = detail::StreamRead::Until;
    return n < 0 ? detail::StreamRead(state(), Until::END, 0)
                 : detail::StreamRead(state(), Until::SOMETHING, static_cast<std::size_t>(n));
}
detail::StreamReadInto StreamReader::read_into(std::span<std::byte> buffer) {
    return detail::StreamReadInto(state(), buffer);
}
detail::StreamRead StreamReader::readexactly(std::size_t n) {
    return detail::StreamRead(state(), detail::StreamRead::Until::SIZE, n);
}
Coro<std::string> StreamReader::readline() { return read_line(state()); }
Coro<std::string> StreamReader::readuntil(std::string separator) {
    std::vector<std::string> one;
    one.push_back(std::move(separator));
    return read_until(state(), std::move(one));
}
Coro<std::string> StreamReader::readuntil(std::vector<std::string> separators) {
    return read_until(state(), std::move(separators));
}
Coro<std::optional<std::string>> StreamReader::next() { return next_line(state()); }

// ---- StreamWriter

void StreamWriter::write(std::string_view data) { state()->transport->write(data); }
void StreamWriter::write(std::span<const std::byte> data) {
    write(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()));  // bytes are chars
}
void StreamWriter::writelines(std::span<const std::string_view> parts) {
    state()->transport->writelines(parts);
}
bool detail::Drain::nothing_to_wait_for() const {
    const StreamReaderProtocol& protocol = *state_->protocol;
    return !protocol.paused_ && !protocol.lost_ && !state_->transport->is_closing() &&
           !(state_->reader && state_->reader->exception());
}

Coro<> detail::Drain::wait(std::shared_ptr<StreamWriterState> state) {
    if (state->reader) state->reader->check();
    // Lets connection_lost come first, so that a loop of write() and drain() notices the end.
    if (state->transport->is_closing()) co_await sleep(Duration::zero());
    co_await StreamReaderProtocol::drain(state->protocol);
}

StreamWriter::StreamWriter(std::shared_ptr<Transport> transport,
                           std::shared_ptr<StreamReaderProtocol> protocol, std::optional<StreamReader> reader)
    : state_(std::make_shared<detail::StreamWriterState>(get_running_loop(), std::move(transport),
                                                         std::move(protocol),
                                                         reader ? reader->state() : nullptr)) {}

std::string StreamWriter::describe() const {
    if (!state_) return "<StreamWriter of no stream>";
    return fmt::format("<StreamWriter {} bytes to be written, {}>",
                       state_->transport->get_write_buffer_size(), state_->transport->describe());
}
bool StreamWriter::can_write_eof() const { return state()->transport->can_write_eof(); }
void StreamWriter::write_eof() { state()->transport->write_eof(); }
void StreamWriter::close() { state()->transport->close(); }
bool StreamWriter::is_closing() const { return state()->transport->is_closing(); }
Coro<> StreamWriter::wait_closed() { return StreamReaderProtocol::wait_closed(state()->protocol); }
std::any StreamWriter::get_extra_info(std::string_view name) const {
    return state()->transport->get_extra_info(name);
}
Coro<> StreamWriter::start_tls(SslContext context, StartTlsOptions options) {
    options.server_side = options.server_side || state()->protocol->callback_;
    if (!state()->anchor->loop) throw RuntimeError("Event loop is closed");
    EventLoop& loop = *state()->anchor->loop;
    auto upgrading = loop.start_tls(state()->transport, state()->protocol, std::move(context), options);
    return upgrade(state(), std::move(upgrading));
}

Coro<> StreamWriter::upgrade(std::shared_ptr<detail::StreamWriterState> state,
                             Coro<std::shared_ptr<Transport>> upgrading) {
    co_await detail::Drain(state);
    if (state->reader && !state->reader->data().empty()) {
        throw RuntimeError(
            "start_tls(): bytes that arrived without TLS have not been read; they would pass for protected "
            "ones");
    }
    auto transport = co_await std::move(upgrading);
    state->transport = transport;
    state->protocol->replace_transport(std::move(transport));
}
std::shared_ptr<Transport> StreamWriter::transport() const { return state()->transport; }

// ---- connecting and serving

namespace detail {

namespace {

Coro<Streams> open_streams(std::size_t limit, Coro<Socket> connecting, TlsPlan plan, std::string host) {
    StreamReader reader(limit);
    auto tls = plan.settings(host);
    Socket socket = co_await std::move(connecting);
    auto factory = [&] { return std::make_shared<StreamReaderProtocol>(reader); };
    auto connected =
        co_await connect_transport(get_running_loop(), std::move(socket), factory, std::move(tls));
    StreamWriter writer(std::move(connected.transport),
                        std::static_pointer_cast<StreamReaderProtocol>(std::move(connected.protocol)),
                        reader);
    co_return Streams{std::move(reader), std::move(writer)};
}

AnyProtocolFactory server_protocols(ClientConnected callback, std::size_t limit) {
    if (limit == 0) throw ValueError("Limit cannot be <= 0");
    auto shared = std::make_shared<const ClientConnected>(std::move(callback));
    return [shared, limit] { return std::make_shared<StreamReaderProtocol>(StreamReader(limit), shared); };
}

}  // namespace

Coro<Server> start_stream_server(ClientConnected callback, std::vector<std::string> hosts, int port,
                                 const ServerOptions& options) {
    auto factory = server_protocols(std::move(callback), options.limit);
    return create_server(nullptr, std::move(factory), std::move(hosts), port, options);
}

Coro<Server> start_stream_server(ClientConnected callback, Socket socket, const ServerOptions& options) {
    auto factory = server_protocols(std::move(callback), options.limit);
    return create_server(nullptr, std::move(factory), std::move(socket), options);
}

Coro<Server> start_unix_stream_server(ClientConnected callback, std::string path,
                                      const UnixServerOptions& options) {
    auto factory = server_protocols(std::move(callback), options.limit);
    return create_unix_server(nullptr, std::move(factory), std::move(path), options);
}

}  // namespace detail

Coro<Streams> open_connection(std::string host, int port, ConnectionOptions options) {
    std::string local_host(options.local_addr.host());
    auto connecting = detail::connect_stream(host, port, options, std::move(local_host));
    return detail::open_streams(options.limit, std::move(connecting), detail::TlsPlan::of(options, false),
                                std::move(host));
}

Coro<Streams> open_connection(Socket socket, ConnectionOptions options) {
    return detail::open_streams(options.limit, detail::given(std::move(socket)),
                                detail::TlsPlan::of(options, false), {});
}

Coro<Streams> open_unix_connection(std::string path, UnixConnectionOptions options) {
    return detail::open_streams(options.limit, detail::connect_unix(std::move(path)),
                                detail::TlsPlan::of(options, false), {});
}

}  // namespace coil
