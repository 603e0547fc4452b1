#pragma once

// TLS between a raw transport, whose protocol this is, and the program's protocol, whose transport it makes.
//
//   raw transport ◄──► TlsProtocol (TlsEngine) ◄── weak ── TlsTransport ◄── the program's protocol
//
//   state         what arrives            what is written             leaves by
//   UNWRAPPED     is dropped              is dropped                  connection_made
//   DO_HANDSHAKE  drives the handshake    is kept                     the handshake's end; its failure: UNWRAPPED
//   WRAPPED       goes to the program     is encrypted and sent       close(), the peer's close_notify
//   FLUSHING      is dropped              what is kept is sent        nothing is kept any more
//   SHUTDOWN      is dropped, up to the peer's close_notify           that, or the peer's end of stream: UNWRAPPED
//
// Any of them ends by the raw transport's connection_lost, in UNWRAPPED. An end of stream without close_notify while WRAPPED
// gives the program all data, then connection_lost(SslEofError), without eof_received. (asyncio does not tell it apart.)

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "coil/events.hpp"
#include "coil/protocols.hpp"
#include "coil/ssl.hpp"
#include "coil/transports.hpp"
#include "io/tls_engine.hpp"

namespace coil::detail {

class TlsTransport;

struct TlsSettings {
    SslContext context;
    bool server_side = false;
    std::string server_hostname{};  // of a client: what it asks for, and the name that is checked
    Duration handshake_timeout = std::chrono::seconds(60);
    Duration shutdown_timeout = std::chrono::seconds(30);
    std::optional<SslSession> session{};  // of a client: to be resumed
};

class TlsProtocol final : public BufferedProtocol, public std::enable_shared_from_this<TlsProtocol> {
  public:
    /// `on_ready` is called once: with null after the handshake and `connection_made`, else with what failed. Without
    /// `call_connection_made` the program's protocol is connected already, as in start_tls. ValueError for bad settings.
    TlsProtocol(EventLoop& loop, std::shared_ptr<StreamingProtocol> app, TlsSettings settings,
                std::function<void(std::exception_ptr)> on_ready, bool call_connection_made = true);
    ~TlsProtocol() override;

    /// The program's transport, which is there from the beginning.
    std::shared_ptr<Transport> app_transport();

    void connection_made(std::shared_ptr<Transport> raw) override;
    void connection_lost(std::exception_ptr error) override;
    void pause_writing() override { raw_writing_paused_ = true; }
    void resume_writing() override;
    std::span<std::byte> get_buffer(std::size_t hint) override;
    void buffer_updated(std::size_t size) override;
    bool eof_received() override;

  private:
    friend class TlsTransport;
    enum class State { UNWRAPPED, DO_HANDSHAKE, WRAPPED, FLUSHING, SHUTDOWN };
    enum class AppState { INIT, CONNECTED, EOF_, LOST };

    void set_app(std::shared_ptr<StreamingProtocol> app);
    void do_handshake();
    void handshake_complete();
    void handshake_failed(std::exception_ptr error);
    void ready(std::exception_ptr error);

    void input_arrived();
    void do_read();
    void deliver();
    void call_eof_received();
    void truncated(std::exception_ptr error);
    void drop_input();
    void control_raw_reading();
    void resume_app_reading();

    void write(std::span<const std::string_view> parts);
    void keep(std::string_view data);
    void write_kept(bool even_if_paused);
    void send_output(bool even_if_paused);
    void control_app_writing();
    std::size_t unsent() const noexcept { return kept_size_ + engine_.output().size(); }

    void start_shutdown();
    void do_shutdown();
    void shutdown_complete();
    void start_shutdown_timer();
    void abort(std::exception_ptr error);
    void fatal_error(std::exception_ptr error, const char* message);

    EventLoop& loop_;
    TlsSettings settings_;
    TlsEngine engine_;
    std::shared_ptr<StreamingProtocol> app_;
    Protocol* plain_app_ = nullptr;  // which of the two app_ is
    BufferedProtocol* buffered_app_ = nullptr;
    std::function<void(std::exception_ptr)> on_ready_;
    std::shared_ptr<TlsTransport> app_transport_;
    std::shared_ptr<Transport> raw_;
    std::exception_ptr error_;  // what we aborted the raw transport for
    TimerHandle handshake_timer_;
    TimerHandle shutdown_timer_;
    TimePoint handshake_start_;
    std::unique_ptr<std::byte[]> own_input_;  // where the thread's buffer is in use

    std::deque<std::string> kept_;  // written by the program, not encrypted yet
    std::size_t kept_begin_ = 0;    // bytes of the first piece that are
    std::size_t kept_size_ = 0;
    std::size_t high_ = 512 * 1024;
    std::size_t low_ = 128 * 1024;
    unsigned writes_after_loss_ = 0;

    State state_ = State::UNWRAPPED;
    AppState app_state_;
    bool app_reading_paused_ = false;
    bool app_writing_paused_ = false;
    bool raw_reading_paused_ = false;
    bool raw_writing_paused_ = false;
    bool raw_ended_ = false;
    bool only_goodbye_left_ = false;  // everything else is sent, and the peer has ended its side
    bool broken_ = false;             // after a fatal error: connection_lost is on its way
};

}  // namespace coil::detail
