#pragma once

// A connected stream socket, driven by readiness.
//
//   state     reads   writes            leaves by
//   open      yes     yes               close(), an error, abort(), the peer's end if the protocol does not want to go on
//   closing   no      what is buffered  the buffer is empty: connection_lost is queued
//   lost      no      no                connection_lost was called: the descriptor is closed
//
// `ready` of the watch remembers what the kernel last said, because an edge comes once: READABLE is cleared by a short read,
// unless CLOSED says that the end comes behind it; WRITABLE by a short write.

#include <deque>
#include <memory>
#include <string>

#include "coil/transports.hpp"
#include "io/socket.hpp"

namespace coil::detail {

class ServerState;

class SocketTransport final : public Transport, private LoopResource {
  public:
    SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<Protocol> protocol,
                    std::shared_ptr<ServerState> server);
    ~SocketTransport() override;

    /// Queues connection_made, and reading behind it.
    void start();

    std::any get_extra_info(std::string_view name) const override;
    bool is_closing() const override { return closing_; }
    void close() override;
    void set_protocol(std::shared_ptr<Protocol> protocol) override { protocol_ = std::move(protocol); }
    std::shared_ptr<Protocol> get_protocol() const override { return protocol_; }
    bool is_reading() const override { return !closing_ && !paused_; }
    void pause_reading() override;
    void resume_reading() override;
    void write(std::string_view data) override;
    void writelines(std::span<const std::string_view> parts) override;
    void write_eof() override;
    bool can_write_eof() const override { return true; }
    void abort() override { force_close(nullptr); }
    std::size_t get_write_buffer_size() const override { return buffered_; }
    std::pair<std::size_t, std::size_t> get_write_buffer_limits() const override { return {low_, high_}; }
    void set_write_buffer_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) override;

  private:
    struct Watching final : QueuedWatch {
        Watching(EventLoop& loop, int fd, SocketTransport& transport)
            : QueuedWatch(loop, fd, &Watching::run), owner(transport) {}
        static void run(Runnable& self, How how);
        SocketTransport& owner;
    };

    std::shared_ptr<SocketTransport> self() {
        return std::static_pointer_cast<SocketTransport>(shared_from_this());
    }
    void loop_closed() noexcept override;
    void read_ready();
    void read_ended();
    void write_ready();
    /// Sends parts of the list; gives how many bytes the kernel took, or nothing after a fatal error.
    std::optional<std::size_t> send(std::span<const std::string_view> parts);
    void buffer(std::span<const std::string_view> parts, std::size_t skip);
    void drop_sent(std::size_t size);
    void fatal_error(std::exception_ptr error, const char* message);
    void force_close(std::exception_ptr error);
    void queue_connection_lost(std::exception_ptr error);
    void connection_lost(const std::exception_ptr& error);
    void pause_protocol();
    void resume_protocol();
    /// Calls the protocol; what it throws is fatal for the connection. False then.
    template <class Call>
    bool call_protocol(const char* name, Call&& call);

    EventLoop& loop_;
    Socket socket_;
    Watching watch_;
    std::shared_ptr<Protocol> protocol_;
    std::shared_ptr<ServerState> server_;
    std::deque<std::string> buffer_;
    std::size_t first_sent_ = 0;  // bytes of the buffer's first piece that are sent
    std::size_t buffered_ = 0;
    std::size_t high_ = 64 * 1024;
    std::size_t low_ = 16 * 1024;
    unsigned writes_after_loss_ = 0;
    bool reading_ = false;  // started
    bool paused_ = false;
    bool closing_ = false;
    bool lost_ = false;  // connection_lost is queued or was called
    bool eof_read_ = false;
    bool eof_written_ = false;
    bool protocol_connected_ = false;
    bool protocol_paused_ = false;
};

}  // namespace coil::detail
