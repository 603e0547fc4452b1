#pragma once

// Sockets and their addresses. The waiting calls are the loop's: `loop.sock_recv(socket, 1000)`.
//
// Of system headers this one needs none; the AF_, SOCK_ and SO_ numbers are those of <sys/socket.h>.

#include <cstdint>
#include <string>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/events.hpp"
#include "coil/fwd.hpp"

namespace coil {

/// Where a socket is bound or connected. No aggregate: GCC 12 would destroy a braced one twice within a co_await.
struct SocketAddress {
    SocketAddress() noexcept = default;
    SocketAddress(std::string its_host, int its_port = 0, std::uint32_t its_flowinfo = 0,
                  std::uint32_t its_scope_id = 0) noexcept
        : host(std::move(its_host)), port(its_port), flowinfo(its_flowinfo), scope_id(its_scope_id) {}
    SocketAddress(const char* its_host, int its_port = 0) : SocketAddress(std::string(its_host), its_port) {}

    std::string host;  // numeric; the path of a Unix socket (an abstract one begins with a NUL)
    int port = 0;
    std::uint32_t flowinfo = 0;  // IPv6
    std::uint32_t scope_id = 0;

    friend bool operator==(const SocketAddress&, const SocketAddress&) = default;
    /// "('127.0.0.1', 80)", as Python shows it; see format.hpp.
    std::string describe() const;
};

/// "('127.0.0.1', 80)", as Python shows it.
std::string to_string(const SocketAddress& address);

/// A socket that somebody else owns, a transport or a server: to look at it and to set options, not to read, write or close it.
class TransportSocket {
  public:
    explicit TransportSocket(int fd) noexcept : fd_(fd) {}

    int fileno() const noexcept { return fd_; }
    /// In one line, see format.hpp.
    std::string describe() const;
    int family() const;
    int type() const;
    SocketAddress getsockname() const;
    SocketAddress getpeername() const;
    int getsockopt(int level, int option) const;
    void setsockopt(int level, int option, int value) const;

  protected:
    int fd_;
};

/// An open socket: non-blocking, not inherited by child processes, closed by its destructor. Move-only. OSError for what the
/// kernel refuses.
class Socket : public TransportSocket {
  public:
    /// No socket.
    Socket() noexcept : TransportSocket(-1) {}
    /// A new one: `Socket(AF_INET, SOCK_STREAM)`.
    explicit Socket(int family, int type, int protocol = 0);
    /// Takes over an open descriptor and makes it non-blocking.
    static Socket adopt(int fd);
    /// The same for one that is non-blocking already.
    static Socket adopt_nonblocking(int fd) noexcept {
        Socket socket;
        socket.fd_ = fd;
        return socket;
    }
    /// Two connected ones.
    static std::pair<Socket, Socket> pair(int family = 1 /* AF_UNIX */, int type = 1 /* SOCK_STREAM */);

    Socket(Socket&& other) noexcept : TransportSocket(std::exchange(other.fd_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    explicit operator bool() const noexcept { return fd_ >= 0; }
    /// The host must be numeric (`loop.getaddrinfo` resolves names); empty: every interface.
    void bind(const SocketAddress& address) const;
    void listen(int backlog = 128) const;
    /// SHUT_RD, SHUT_WR or SHUT_RDWR.
    void shutdown(int how) const;
    /// Call it when no operation waits for the socket.
    void close() noexcept;
    /// Gives the descriptor away.
    int detach() noexcept { return std::exchange(fd_, -1); }
};

template <>
inline constexpr bool detail::DESCRIBED<SocketAddress> = true;
template <>
inline constexpr bool detail::DESCRIBED<TransportSocket> = true;
template <>
inline constexpr bool detail::DESCRIBED<Socket> = true;

}  // namespace coil
