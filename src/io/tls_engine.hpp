#pragma once

// TLS without a connection: encrypted bytes in and out on one side, the program's bytes on the other. It does no I/O and knows
// no loop.
//
//   what arrives ── feed() ──► ┌────────────┐ ── read() ──► the program
//                              │ TlsEngine  │
//   to be sent ◄── output() ── └────────────┘ ◄── write() ──
//
// Any call may leave output behind, also one that throws: an alert for the peer. After an error every call throws it again.

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "coil/ssl.hpp"

struct bio_st;
struct ssl_st;

namespace coil::detail {

class TlsEngine {
  public:
    enum class Status {
        DONE,
        WANT_INPUT,  // goes on after a feed()
        CLOSED,      // the peer's close_notify: nothing comes behind it
    };
    struct Read {
        std::size_t size;
        Status status;  // DONE: the space is full, or there may be more
    };

    /// ValueError for a host name that cannot be, SslError for a context of the other side.
    TlsEngine(const SslContext& context, bool server_side, const std::string& server_hostname = {},
              const std::optional<SslSession>& session = {});
    ~TlsEngine();
    TlsEngine(const TlsEngine&) = delete;
    TlsEngine& operator=(const TlsEngine&) = delete;

    void feed(std::string_view data) { keep(data); }
    /// Feeds bytes that are not copied while it lives; at its end the engine keeps those that it has not taken in.
    class Lent {
      public:
        Lent(TlsEngine& engine, std::string_view data) : engine_(engine) { engine_.lent_ = data; }
        ~Lent() { engine_.keep(std::exchange(engine_.lent_, {})); }
        Lent(const Lent&) = delete;
        Lent& operator=(const Lent&) = delete;

      private:
        TlsEngine& engine_;
    };
    /// Nothing will be fed any more. Without a close_notify before it, reading to the end throws SslEofError.
    void feed_eof() noexcept { eof_ = true; }
    /// Bytes that were fed and are not taken in yet.
    std::size_t unread() const noexcept { return kept_.size() - kept_begin_ + lent_.size(); }

    /// What is to be sent, in order. The view is good until the next call.
    std::string_view output() const noexcept { return std::string_view(output_).substr(output_begin_); }
    /// So much of it is sent.
    void drop_output(std::size_t size) noexcept;

    Status do_handshake();
    /// As much as there is and fits.
    Read read(std::span<std::byte> space);
    /// All of the data. WANT_INPUT only before the end of the handshake: nothing was taken then.
    Status write(std::string_view data);
    /// Sends a close_notify. DONE once the peer's has come too; data before that are dropped.
    Status shutdown();

    SslObject object() const { return SslObject(state_); }

  private:
    friend struct EngineBio;

    void keep(std::string_view data);
    /// Empty: the handshake or the shutdown of OpenSSL wants input or is at the end of the stream; else failed_ is set.
    std::optional<Status> stopped(int result);
    void check_failed() const {
        if (failed_) std::rethrow_exception(failed_);
    }
    void set_hostname(const std::string& name, bool check);
    void set_session(const SslSession& session);

    std::shared_ptr<SslObjectState> state_;
    ssl_st* ssl_;
    bio_st* bio_ = nullptr;  // the SSL object's: it reads here and writes here
    std::string_view lent_;
    std::string kept_;  // before what is lent
    std::size_t kept_begin_ = 0;
    std::string output_;
    std::size_t output_begin_ = 0;
    bool eof_ = false;
    std::exception_ptr failed_;
};

}  // namespace coil::detail
