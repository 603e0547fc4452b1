#pragma once

// Socket addresses as the kernel has them.

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "coil/sockets.hpp"

namespace coil::detail {

struct Address {
    sockaddr_storage storage{};
    socklen_t length = sizeof(sockaddr_storage);

    Address() = default;
    Address(const sockaddr* address, socklen_t size) : length(size) { std::memcpy(&storage, address, size); }

    int family() const noexcept { return storage.ss_family; }
    sockaddr* data() noexcept {
        return reinterpret_cast<sockaddr*>(&storage);
    }  // the sockets API's own aliasing
    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
    SocketAddress public_form() const;
    /// Of an IPv6 address; zeros change nothing.
    void set_scope(std::uint32_t flowinfo, std::uint32_t scope_id) noexcept;
};

/// An address kept in eight bytes: one of IPv4 and a Unix socket's empty one in place, any other on the heap.
class CompactAddress {
  public:
    CompactAddress() noexcept = default;
    explicit CompactAddress(const Address& address);
    CompactAddress(CompactAddress&& other) noexcept : bits_(std::exchange(other.bits_, 0)) {}
    CompactAddress& operator=(CompactAddress&& other) noexcept {
        std::swap(bits_, other.bits_);
        return *this;
    }
    ~CompactAddress();

    /// Nothing if it was default-constructed.
    std::optional<SocketAddress> public_form() const;

  private:
    // Zero: none. Odd: the kind, for IPv4 with the port from bit 16 and the address from bit 32 on, both in network order.
    // Otherwise a pointer to the length and the bytes behind it.
    enum : std::uint64_t { IN_PLACE = 1, IPV4 = 1, EMPTY_PATH = 3, KIND = 3 };
    std::byte* block() const noexcept { return reinterpret_cast<std::byte*>(bits_); }

    std::uintptr_t bits_ = 0;
    static_assert(sizeof bits_ == 8);
};

/// The address of a numeric host, without asking anybody. `family`: AF_UNSPEC for either. A scope ("fe80::1%eth0") is the
/// resolver's business.
std::optional<Address> numeric_address(const std::string& host, int port, int family = AF_UNSPEC);

/// For a socket of this family: a path for AF_UNIX, else a numeric host; an empty one is the wildcard. ValueError if the host is
/// not numeric or the path too long.
Address kernel_address(const SocketAddress& address, int family);

/// ValueError unless it is 0 to 65535.
void check_port(int port);

}  // namespace coil::detail
