#pragma once

// Addresses and the view of a socket that a transport or a server owns.

#include <cstdint>
#include <string>

#include "coil/fwd.hpp"

namespace coil {

/// Where a socket is bound or connected.
struct SocketAddress {
    std::string host;  // numeric; the path of a Unix socket
    int port = 0;

    friend bool operator==(const SocketAddress&, const SocketAddress&) = default;
};

/// "('127.0.0.1', 80)", as Python shows it.
std::string to_string(const SocketAddress& address);

/// A socket that belongs to a transport or a server: to look at it and to set options, not to read, write or close it.
class TransportSocket {
  public:
    explicit TransportSocket(int fd) noexcept : fd_(fd) {}

    int fileno() const noexcept { return fd_; }
    SocketAddress getsockname() const;
    SocketAddress getpeername() const;
    int getsockopt(int level, int option) const;
    void setsockopt(int level, int option, int value) const;

  private:
    int fd_;
};

}  // namespace coil
