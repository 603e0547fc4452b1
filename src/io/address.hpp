#pragma once

// Socket addresses as the kernel has them.

#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

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

/// The address of a numeric host, without asking anybody. `family`: AF_UNSPEC for either. A scope ("fe80::1%eth0") is the
/// resolver's business.
std::optional<Address> numeric_address(const std::string& host, int port, int family = AF_UNSPEC);

/// For a socket of this family: a path for AF_UNIX, else a numeric host; an empty one is the wildcard. ValueError if the host is
/// not numeric or the path too long.
Address kernel_address(const SocketAddress& address, int family);

/// ValueError unless it is 0 to 65535.
void check_port(int port);

}  // namespace coil::detail
