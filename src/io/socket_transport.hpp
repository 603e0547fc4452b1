#pragma once

// A connected stream socket: TCP or Unix.

#include "io/stream_transport.hpp"

#include <any>

namespace coil::detail {

class FileSender;
class ServerState;

/// TCP_NODELAY. A connection inherits it from the listening socket.
void send_without_delay(int fd) noexcept;

class SocketTransport final : public StreamTransport {
  public:
    SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<StreamingProtocol> protocol);
    /// Accepted by `server`.
    SocketTransport(EventLoop& loop, Socket socket, std::shared_ptr<StreamingProtocol> protocol,
                    ServerState& server, const Address& peer);
    ~SocketTransport() override;

    std::any get_extra_info(std::string_view name) const override;

    /// Sends a file behind what is buffered; gives how many bytes there were. Reading is paused meanwhile.
    /// SendfileNotAvailableError, with nothing sent, if the kernel cannot.
    Coro<std::size_t> send_file(FileSender& sender);

    std::uint32_t server_slot = 0;  // the server's

  private:
    class Writable;

    ssize_t receive(std::span<std::byte> buffer) noexcept override;
    ssize_t send(std::span<const std::string_view> parts) noexcept override;
    void shut_writing() noexcept override;
    const char* kind() const noexcept override { return "socket transport"; }
    void flushed() override;
    void keep_names() noexcept override;
    void released() noexcept override;
    void leave_server() noexcept;
    LeafWaiter* flushing() const noexcept { return extras() ? extras()->flushing : nullptr; }

    ServerState* server_ = nullptr;  // lives until this transport has left it
    CompactAddress peer_;            // the kernel forgets it when the connection ends
};

}  // namespace coil::detail
