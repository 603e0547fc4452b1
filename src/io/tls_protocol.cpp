#include "io/tls_protocol.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "io/tls_transport.hpp"
#include "loop/debug_log.hpp"

namespace coil::detail {

namespace {

constexpr std::size_t READ_SIZE = 256 * 1024;
constexpr std::size_t WRITE_SIZE = 128 * 1024;  // what is encrypted before it is sent: it stays in the cache
constexpr std::size_t READ_HIGH = 256 * 1024;   // of what is not decrypted yet
constexpr std::size_t READ_LOW = READ_HIGH / 4;

/// Memory of the thread that holds something during a call only, so that idle connections have none. A call inside such a call,
/// as with TLS inside TLS, has to take memory of its own.
struct ThreadBuffer {
    std::unique_ptr<std::byte[]> memory;
    bool used = false;

    std::span<std::byte> get() {
        if (!memory) memory = std::make_unique_for_overwrite<std::byte[]>(READ_SIZE);
        return {memory.get(), READ_SIZE};
    }
};
thread_local ThreadBuffer encrypted_buffer;
thread_local ThreadBuffer decrypted_buffer;

class Using {
  public:
    explicit Using(ThreadBuffer& buffer) : buffer_(buffer), outer_(std::exchange(buffer.used, true)) {}
    ~Using() { buffer_.used = outer_; }
    Using(const Using&) = delete;
    Using& operator=(const Using&) = delete;
    std::span<std::byte> get() {
        if (!outer_) return buffer_.get();
        if (!own_) own_ = std::make_unique_for_overwrite<std::byte[]>(READ_SIZE);
        return {own_.get(), READ_SIZE};
    }

  private:
    ThreadBuffer& buffer_;
    bool outer_;
    std::unique_ptr<std::byte[]> own_;
};

/// As Python writes a float.
std::string seconds_text(Duration duration) {
    std::string text = fmt::format("{}", std::chrono::duration<double>(duration).count());
    return text.find_first_of(".e") == text.npos ? text + ".0" : text;
}

TlsSettings checked(TlsSettings settings) {
    auto check = [](const char* name, Duration duration) {
        if (duration <= Duration::zero())
            throw ValueError(
                fmt::format("{} should be a positive number, got {}", name, seconds_text(duration)));
    };
    check("ssl_handshake_timeout", settings.handshake_timeout);
    check("ssl_shutdown_timeout", settings.shutdown_timeout);
    if (settings.server_side) settings.server_hostname.clear();
    return settings;
}

}  // namespace

TlsProtocol::TlsProtocol(EventLoop& loop, std::shared_ptr<StreamingProtocol> app, TlsSettings settings,
                         std::function<void(std::exception_ptr)> on_ready, bool call_connection_made)
    : loop_(loop),
      settings_(checked(std::move(settings))),
      engine_(settings_.context, settings_.server_side, settings_.server_hostname, settings_.session),
      on_ready_(std::move(on_ready)),
      app_state_(call_connection_made ? AppState::INIT : AppState::CONNECTED) {
    set_app(std::move(app));
}

TlsProtocol::~TlsProtocol() {
    handshake_timer_.cancel();
    shutdown_timer_.cancel();
    if (app_transport_) app_transport_->closed_ = true;
}

void TlsProtocol::set_app(std::shared_ptr<StreamingProtocol> app) {
    if (!app) throw ValueError("a transport needs a protocol");
    app_ = std::move(app);
    plain_app_ = dynamic_cast<Protocol*>(app_.get());
    buffered_app_ = dynamic_cast<BufferedProtocol*>(app_.get());
}

std::shared_ptr<Transport> TlsProtocol::app_transport() {
    if (!app_transport_) app_transport_ = std::make_shared<TlsTransport>(weak_from_this(), settings_.context);
    return app_transport_;
}

void TlsProtocol::ready(std::exception_ptr error) {
    if (auto call = std::exchange(on_ready_, nullptr)) call(std::move(error));
}

// ---- the handshake

void TlsProtocol::connection_made(std::shared_ptr<Transport> raw) {
    auto keep = shared_from_this();
    raw_ = std::move(raw);
    app_transport();
    if (app_transport_->closed_) return raw_->abort();
    state_ = State::DO_HANDSHAKE;
    handshake_start_ = loop_.time();
    handshake_timer_ = loop_.call_later(settings_.handshake_timeout, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (!self || self->state_ != State::DO_HANDSHAKE) return;
        self->fatal_error(std::make_exception_ptr(ConnectionAbortedError(fmt::format(
                              "SSL handshake is taking longer than {} seconds: aborting the connection",
                              seconds_text(self->settings_.handshake_timeout)))),
                          "Fatal error on transport");
    });
    do_handshake();
}

void TlsProtocol::do_handshake() {
    try {
        bool done = engine_.do_handshake() == TlsEngine::Status::DONE;
        send_output(false);
        if (!done) return;
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        return handshake_failed(std::current_exception());
    }
    handshake_complete();
}

void TlsProtocol::handshake_complete() {
    handshake_timer_.cancel();
    state_ = State::WRAPPED;
    debug_log(loop_, LogLevel::DEBUG_, [&] {
        std::chrono::duration<double, std::milli> taken = loop_.time() - handshake_start_;
        return fmt::format("SSL handshake took {:.1f} ms", taken.count());
    });
    app_transport_->object_ = engine_.object();
    if (app_state_ == AppState::INIT) {
        app_state_ = AppState::CONNECTED;
        try {
            app_->connection_made(app_transport_);
        } catch (const KeyboardInterrupt&) {
            throw;
        } catch (...) {
            fatal_error(std::current_exception(), "Fatal error: protocol.connection_made() call failed.");
            return ready(std::current_exception());
        }
    }
    ready(nullptr);
    do_read();
}

void TlsProtocol::handshake_failed(std::exception_ptr error) {
    handshake_timer_.cancel();
    bool certificate = false;
    try {
        std::rethrow_exception(error);
    } catch (const SslCertVerificationError&) {
        certificate = true;
    } catch (...) {  // any other reason
    }
    send_output(true);  // the alert that tells the peer
    state_ = State::UNWRAPPED;
    fatal_error(error,
                certificate ? "SSL handshake failed on verifying the certificate" : "SSL handshake failed");
    ready(std::move(error));
}

// ---- from the raw transport

std::span<std::byte> TlsProtocol::get_buffer(std::size_t) {
    if (own_input_) return {own_input_.get(), READ_SIZE};
    if (!encrypted_buffer.used) return encrypted_buffer.get();
    own_input_ = std::make_unique_for_overwrite<std::byte[]>(READ_SIZE);
    return {own_input_.get(), READ_SIZE};
}

void TlsProtocol::buffer_updated(std::size_t size) {
    auto keep = shared_from_this();
    auto own = std::move(own_input_);
    if (state_ == State::UNWRAPPED || broken_) return;
    Using in_use(encrypted_buffer);
    const std::byte* data = own ? own.get() : encrypted_buffer.memory.get();
    TlsEngine::Lent lent(engine_, std::string_view(reinterpret_cast<const char*>(data), size));
    input_arrived();
}

void TlsProtocol::input_arrived() {
    switch (state_) {
        case State::DO_HANDSHAKE:
            return do_handshake();
        case State::WRAPPED:
            return do_read();
        case State::FLUSHING:
            return drop_input();
        case State::SHUTDOWN:
            return do_shutdown();
        case State::UNWRAPPED:
            return;
    }
}

bool TlsProtocol::eof_received() {
    auto keep = shared_from_this();
    raw_ended_ = true;
    engine_.feed_eof();
    debug_log(loop_, LogLevel::DEBUG_, [&] { return "TLS connection: the peer's stream has ended"; });
    switch (state_) {
        case State::DO_HANDSHAKE:
            handshake_failed(std::make_exception_ptr(
                ConnectionResetError(ECONNRESET, "the connection was closed during the SSL handshake")));
            return false;
        case State::WRAPPED:
            if (app_reading_paused_) return true;  // there may be data; the rest comes with resume_reading
            do_read();
            return false;
        case State::FLUSHING:
            try {
                write_kept(true);
            } catch (const KeyboardInterrupt&) {
                throw;
            } catch (...) {
                fatal_error(std::current_exception(), "Fatal error on SSL protocol");
            }
            return false;
        case State::SHUTDOWN:
            do_shutdown();
            return false;
        case State::UNWRAPPED:
            return false;
    }
    return false;
}

void TlsProtocol::connection_lost(std::exception_ptr error) {
    auto keep = shared_from_this();
    if (error_) {
        error = error_;
    } else if (only_goodbye_left_) {
        error = nullptr;  // a peer that has said goodbye need not hear ours
    }
    handshake_timer_.cancel();
    shutdown_timer_.cancel();
    kept_.clear();
    kept_begin_ = kept_size_ = 0;
    engine_.drop_output(engine_.output().size());
    app_transport();
    app_transport_->closed_ = true;
    state_ = State::UNWRAPPED;
    raw_ = nullptr;
    auto app = std::exchange(app_, nullptr);
    plain_app_ = nullptr;
    buffered_app_ = nullptr;
    if (app_state_ == AppState::CONNECTED || app_state_ == AppState::EOF_) {
        app_state_ = AppState::LOST;
        loop_.call_soon([app = std::move(app), error] { app->connection_lost(error); });
    }
    ready(error ? error
                : std::make_exception_ptr(ConnectionAbortedError(
                      ECONNABORTED, "the connection was closed during the SSL handshake")));
}

// ---- reading

void TlsProtocol::do_read() {
    if (state_ != State::WRAPPED || broken_) return;
    try {
        deliver();
        if (state_ == State::WRAPPED || state_ == State::FLUSHING) write_kept(false);
        control_raw_reading();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (const SslEofError&) {
        truncated(std::current_exception());
    } catch (...) {
        send_output(true);  // an alert, if it was OpenSSL that failed
        fatal_error(std::current_exception(), "Fatal error on SSL protocol");
    }
}

void TlsProtocol::deliver() {
    Using in_use(decrypted_buffer);
    // The program may pause or close inside any of its calls, or change the protocol.
    while (state_ == State::WRAPPED && !broken_ && !app_reading_paused_) {
        auto app = app_;
        Protocol* plain = plain_app_;
        BufferedProtocol* buffered = buffered_app_;
        std::span<std::byte> space = buffered ? buffered->get_buffer(engine_.unread()) : in_use.get();
        if (space.empty()) throw RuntimeError("get_buffer() returned an empty buffer");
        auto [size, status] = engine_.read(space);
        if (size > 0 && buffered) {
            buffered->buffer_updated(size);
        } else if (size > 0 && plain) {
            plain->data_received(std::string_view(reinterpret_cast<const char*>(space.data()), size));
        }
        if (status == TlsEngine::Status::WANT_INPUT) return;
        if (status == TlsEngine::Status::CLOSED && size == 0) {
            call_eof_received();
            start_shutdown();
        }
    }
}

void TlsProtocol::call_eof_received() {
    if (app_state_ != AppState::CONNECTED) return;
    app_state_ = AppState::EOF_;
    try {
        if (app_->eof_received())
            log(LogLevel::WARNING, "returning true from eof_received() has no effect when using ssl");
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        fatal_error(std::current_exception(), "Error calling eof_received()");
    }
}

/// The peer is gone without a close_notify. What was encrypted before may still go out.
void TlsProtocol::truncated(std::exception_ptr error) {
    debug_log(loop_, LogLevel::DEBUG_,
              [&] { return "TLS connection: the peer's stream has ended without a close_notify"; });
    send_output(true);
    error_ = std::move(error);
    broken_ = true;
    app_transport_->closed_ = true;
    start_shutdown_timer();
    raw_->close();
}

void TlsProtocol::drop_input() {
    try {
        std::array<std::byte, 4096> dropped;
        while (engine_.read(dropped).status == TlsEngine::Status::DONE) continue;
    } catch (...) {
        send_output(true);
        return fatal_error(std::current_exception(), "Fatal error on SSL protocol");
    }
    control_raw_reading();
}

void TlsProtocol::control_raw_reading() {
    if (!raw_) return;
    std::size_t size = engine_.unread();
    if (size >= READ_HIGH && !raw_reading_paused_) {
        raw_reading_paused_ = true;
        raw_->pause_reading();
    } else if (size <= READ_LOW && raw_reading_paused_) {
        raw_reading_paused_ = false;
        raw_->resume_reading();
    }
}

void TlsProtocol::resume_app_reading() {
    if (!std::exchange(app_reading_paused_, false)) return;
    loop_.call_soon([self = shared_from_this()] { self->do_read(); });
}

// ---- writing

void TlsProtocol::write(std::span<const std::string_view> parts) {
    if ((state_ != State::WRAPPED && state_ != State::DO_HANDSHAKE) || broken_) {
        constexpr unsigned WARN_FROM = 5;
        if (++writes_after_loss_ == WARN_FROM) log(LogLevel::WARNING, "SSL connection is closed");
        return;
    }
    try {
        std::span<const std::string_view> rest = parts;
        std::string_view only;
        if (parts.size() == 1) {
            // Without a copy, as long as the raw transport takes it.
            only = parts[0];
            while (state_ == State::WRAPPED && !broken_ && kept_size_ == 0 && !raw_writing_paused_ &&
                   !only.empty()) {
                engine_.write(only.substr(0, WRITE_SIZE));
                only.remove_prefix(std::min(only.size(), WRITE_SIZE));
                send_output(false);
            }
            rest = std::span(&only, 1);
        }
        for (std::string_view part : rest) keep(part);
        if (state_ == State::WRAPPED) {
            write_kept(false);
        } else {
            control_app_writing();
        }
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        fatal_error(std::current_exception(), "Fatal error on SSL protocol");
    }
}

void TlsProtocol::keep(std::string_view data) {
    if (data.empty()) return;
    constexpr std::size_t SHARE = 16 * 1024;  // small pieces become one record
    if (kept_size_ > 0 && kept_.back().size() + data.size() <= SHARE) {
        kept_.back().append(data);
    } else {
        kept_.emplace_back(data);
    }
    kept_size_ += data.size();
}

void TlsProtocol::write_kept(bool even_if_paused) {
    send_output(even_if_paused);
    while (kept_size_ > 0 && !broken_ && (!raw_writing_paused_ || even_if_paused)) {
        std::string_view piece = std::string_view(kept_.front()).substr(kept_begin_, WRITE_SIZE);
        engine_.write(piece);
        kept_begin_ += piece.size();
        kept_size_ -= piece.size();
        if (kept_begin_ == kept_.front().size()) {
            kept_.pop_front();
            kept_begin_ = 0;
        }
        send_output(even_if_paused);
    }
    control_app_writing();
    if (state_ == State::FLUSHING && kept_size_ == 0 && !broken_) {
        state_ = State::SHUTDOWN;
        do_shutdown();
    }
}

void TlsProtocol::send_output(bool even_if_paused) {
    std::string_view output = engine_.output();
    if (output.empty() || (raw_writing_paused_ && !even_if_paused)) return;
    if (raw_ && !raw_->is_closing()) raw_->write(output);
    engine_.drop_output(output.size());
}

void TlsProtocol::resume_writing() {
    auto keep = shared_from_this();
    raw_writing_paused_ = false;
    try {
        if (state_ == State::WRAPPED || state_ == State::FLUSHING) {
            write_kept(false);
        } else {
            send_output(false);
        }
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        fatal_error(std::current_exception(), "Fatal error on SSL protocol");
    }
}

void TlsProtocol::control_app_writing() {
    std::size_t size = unsent();
    bool pause = size > high_ && !app_writing_paused_;
    bool resume = size <= low_ && app_writing_paused_;
    if ((!pause && !resume) || !app_) return;
    app_writing_paused_ = pause;
    auto app = app_;
    try {
        pause ? app->pause_writing() : app->resume_writing();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        loop_.call_exception_handler(
            {.message = pause ? "protocol.pause_writing() failed" : "protocol.resume_writing() failed",
             .exception = std::current_exception()});
    }
}

// ---- closing

void TlsProtocol::start_shutdown() {
    if (state_ == State::DO_HANDSHAKE) return abort(nullptr);
    if (state_ != State::WRAPPED || broken_) return;
    if (app_transport_) app_transport_->closed_ = true;
    state_ = State::FLUSHING;
    start_shutdown_timer();
    try {
        // Lets the peer's close_notify come where reading was paused. Once the stream has ended, that would be an error.
        if (!raw_ended_) drop_input();
        write_kept(raw_ended_);
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        fatal_error(std::current_exception(), "Fatal error on SSL protocol");
    }
}

/// It runs until connection_lost, for the raw transport too may be unable to send the rest.
void TlsProtocol::start_shutdown_timer() {
    shutdown_timer_ = loop_.call_later(settings_.shutdown_timeout, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (!self || !self->raw_) return;
        if (!self->error_) self->error_ = std::make_exception_ptr(TimeoutError("SSL shutdown timed out"));
        self->broken_ = true;
        self->raw_->abort();
    });
}

void TlsProtocol::do_shutdown() {
    bool done = true;
    try {
        done = engine_.shutdown() == TlsEngine::Status::DONE;
    } catch (const SslEofError&) {  // the peer has closed without waiting for our close_notify: it may
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        send_output(true);
        return fatal_error(std::current_exception(), "Fatal error on transport");
    }
    if (done && raw_ && raw_->get_write_buffer_size() == 0) only_goodbye_left_ = true;
    send_output(true);
    if (done) shutdown_complete();
}

void TlsProtocol::shutdown_complete() {
    if (std::exchange(broken_, true)) return;
    loop_.call_soon([raw = raw_] {
        if (raw) raw->close();
    });
}

void TlsProtocol::abort(std::exception_ptr error) {
    state_ = State::UNWRAPPED;
    if (!raw_) return;
    if (!error_) error_ = std::move(error);
    raw_->abort();
}

void TlsProtocol::fatal_error(std::exception_ptr error, const char* message) {
    broken_ = true;
    if (app_transport_) app_transport_->closed_ = true;
    if (raw_) {
        if (!error_) error_ = error;
        raw_->abort();
    }
    try {
        std::rethrow_exception(error);
    } catch (const OSError& e) {
        debug_log(loop_, LogLevel::DEBUG_, [&] { return fmt::format("{}: {}", message, e.what()); });
    } catch (const CancelledError&) {  // nobody's fault
    } catch (...) {
        loop_.call_exception_handler({.message = message, .exception = error});
    }
}

}  // namespace coil::detail
