#pragma once

// A descriptor that carries bytes, driven by readiness: what sockets and pipes have in common.
//
//   state     reads   writes            leaves by
//   open      yes     yes               close(), an error, abort(), the peer's end if the protocol does not want to go on
//   closing   no      what is buffered  the buffer is empty: connection_lost is queued
//   lost      no      no                connection_lost was called: the descriptor is closed
//
// `ready` of the watch remembers what the kernel last said, because an edge comes once: READABLE is cleared by a short read,
// unless CLOSED says that the end comes behind it; WRITABLE by a short write.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "coil/detail/task_base.hpp"
#include "coil/protocols.hpp"
#include "coil/sockets.hpp"
#include "coil/transports.hpp"
#include "io/address.hpp"
#include "io/queued_watch.hpp"
#include "io/write_buffer.hpp"

namespace coil::detail {

/// Somebody who receives by himself, when his turn comes, instead of being given what has arrived: so bytes go where they are
/// wanted without a copy, and a read that is cancelled has taken nothing.
class DirectReader {
  public:
    /// The descriptor is readable. True: he waited for it, and will call receive_now(). False: he does not want to read now.
    virtual bool take_readable() noexcept = 0;

  protected:
    ~DirectReader() = default;
};

class StreamTransport : public Transport, private LoopResource, private QueuedWatch {
  public:
    ~StreamTransport() override;

    /// Queues connection_made, then the start of reading, then `on_ready` if there is one.
    void start(std::function<void()> on_ready = nullptr);

    bool is_closing() const final { return closing_; }
    void close() override;
    void set_protocol(std::shared_ptr<StreamingProtocol> protocol) final;
    std::shared_ptr<StreamingProtocol> get_protocol() const final { return protocol_; }
    bool is_reading() const final { return !closing_ && !paused_ && (direction_ & READS); }
    void pause_reading() final;
    void resume_reading() final;
    void write(std::string_view data) final;
    void writelines(std::span<const std::string_view> parts) final;
    using WriteTransport::writelines;
    void write_eof() override;
    bool can_write_eof() const override { return true; }
    void abort() final { force_close(nullptr); }
    std::size_t get_write_buffer_size() const final { return buffer_.size(); }
    std::pair<std::size_t, std::size_t> get_write_buffer_limits() const final {
        return {limits().low, limits().high};
    }
    void set_write_buffer_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) final;

    void set_direct_reader(DirectReader* reader) noexcept { direct_reader_ = reader; }
    /// Whether receive_now() is this one's to call, and may find something.
    bool readable_for(const DirectReader& reader) const noexcept {
        return direct_reader_ == &reader && readable();
    }
    /// Receives into the buffer. Nothing: there is nothing yet, or the stream has ended or failed, and the protocol was told.
    std::optional<std::size_t> receive_now(std::span<std::byte> buffer);
    /// What receive_now() has left goes to the protocol, if it is not received before: no edge tells of it.
    void look_again() noexcept { watch().queue(); }

    /// Closes it for an error; what is not the system's error is reported with this message.
    void fatal_error(std::exception_ptr error, const std::string& message);
    EventLoop& loop() const noexcept { return loop_; }
    int fd() const noexcept { return socket_.fileno(); }

  protected:
    StreamTransport(EventLoop& loop, Socket descriptor, std::shared_ptr<StreamingProtocol> protocol);

    enum : std::uint8_t { READS = 1, WRITES = 2 };  // what the descriptor is for

    /// The three calls of the kernel; errno says what failed.
    virtual ssize_t receive(std::span<std::byte> buffer) noexcept = 0;
    virtual ssize_t send(std::span<const std::string_view> parts) noexcept = 0;
    virtual void shut_writing() noexcept = 0;
    /// "socket transport": for messages.
    virtual const char* kind() const noexcept = 0;
    /// The peer has ended its side.
    virtual void read_ended();
    /// Of a transport that only writes: nobody reads the other end any more.
    virtual void peer_closed() {}
    /// The last bytes of the buffer have gone, in write_ready().
    virtual void flushed() {}
    /// The descriptor will be closed, and somebody still holds the transport.
    virtual void keep_names() noexcept {}
    /// connection_lost was called.
    virtual void released() noexcept {}

    std::shared_ptr<StreamTransport> self() {
        return std::static_pointer_cast<StreamTransport>(shared_from_this());
    }
    bool readable() const noexcept {
        return reading_ && (Watch::ready & READABLE) && is_reading() && !eof_read_ && !lost_;
    }
    bool lost() const noexcept { return lost_; }
    bool eof_read() const noexcept { return eof_read_; }
    bool eof_written() const noexcept { return eof_written_; }
    const WriteBuffer& write_buffer() const noexcept { return buffer_; }
    StreamingProtocol& protocol() const noexcept { return *protocol_; }
    /// The kernel refuses a call: closes the connection without a throw.
    void fatal_os_error(int errnum, const char* what);
    void force_close(std::exception_ptr error);
    void queue_connection_lost(std::exception_ptr error);
    void begin_closing() noexcept { closing_ = true; }
    void set_direction(std::uint8_t direction) noexcept { direction_ = direction; }
    /// Calls the protocol; what it throws is fatal for the connection. False then.
    template <class Call>
    bool call_protocol(const char* name, Call&& call);

    struct Limits {
        std::size_t low = 16 * 1024;
        std::size_t high = 64 * 1024;
    };
    /// What few transports have, or only once they are closed.
    struct Extras {
        Limits limits;                   // of the write buffer
        LeafWaiter* flushing = nullptr;  // who sends a file, and waits for flushed()
        CompactAddress sockname;
    };
    /// Null: all as in a new one.
    const Extras* extras() const noexcept { return extras_.get(); }
    Extras& make_extras() {
        if (!extras_) extras_ = std::make_unique<Extras>();
        return *extras_;
    }

    using QueuedWatch::loop_;
    QueuedWatch& watch() noexcept { return *this; }
    const Socket& socket() const noexcept { return socket_; }

  private:
    template <class>
    friend struct LayoutOf;

    static void run(Runnable& self, How how);
    void loop_closed() noexcept final;
    void close_descriptor() noexcept;
    /// Closes it. `own_handles`: of this transport, not the program's.
    void let_descriptor_go(long own_handles) noexcept;
    void read_ready();
    /// Receives, and deals with all that is no data.
    std::optional<std::size_t> try_receive(std::span<std::byte> buffer);
    void write_ready();
    /// Sends parts; gives how many bytes the kernel took, or nothing after a fatal error.
    std::optional<std::size_t> try_send(std::span<const std::string_view> parts);
    void connection_lost(const std::exception_ptr& error);
    void pause_protocol();
    void resume_protocol();
    Limits limits() const noexcept { return extras_ ? extras_->limits : Limits{}; }
    BufferedProtocol& buffered_protocol() const noexcept {
        return static_cast<BufferedProtocol&>(*protocol_);
    }

    std::shared_ptr<StreamTransport> keeps_itself_;  // while it is open, whatever handles exist
    std::shared_ptr<StreamingProtocol> protocol_;
    DirectReader* direct_reader_ = nullptr;
    WriteBuffer buffer_;
    std::unique_ptr<Extras> extras_;
    Socket socket_;
    std::uint8_t writes_after_loss_ = 0;
    std::uint8_t direction_ = READS | WRITES;
    bool buffered_protocol_ : 1 = false;  // protocol_ is a BufferedProtocol; else a Protocol
    bool reading_ : 1 = false;            // started
    bool paused_ : 1 = false;
    bool closing_ : 1 = false;
    bool lost_ : 1 = false;  // connection_lost is queued or was called
    bool eof_read_ : 1 = false;
    bool eof_written_ : 1 = false;
    bool protocol_connected_ : 1 = false;
    bool protocol_paused_ : 1 = false;
};

/// Starts it, and returns once connection_made was called.
Coro<Connected<Transport, StreamingProtocol>> start_transport(EventLoop& loop,
                                                              std::shared_ptr<StreamTransport> transport,
                                                              std::shared_ptr<StreamingProtocol> protocol);

/// One buffer for all reads of the thread: bytes stay in it only during a call of the protocol's.
std::span<std::byte> shared_read_buffer();

/// {low, high} for what was asked of a write buffer. ValueError unless high >= low.
std::pair<std::size_t, std::size_t> write_buffer_limits(std::optional<std::size_t> high,
                                                        std::optional<std::size_t> low);

}  // namespace coil::detail
