#include "io/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>

#include "base/c_text.hpp"
#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

SocketAddress Address::public_form() const {
    SocketAddress result;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (family() == AF_INET) {
        const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
        ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
        result.host = text.data();
        result.port = ntohs(in.sin_port);
    } else if (family() == AF_INET6) {
        const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
        ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
        result.host = text.data();
        result.port = ntohs(in.sin6_port);
        result.flowinfo = ntohl(in.sin6_flowinfo);
        result.scope_id = in.sin6_scope_id;
    } else if (family() == AF_UNIX) {
        const auto& un = reinterpret_cast<const sockaddr_un&>(storage);
        constexpr std::size_t HEAD = offsetof(sockaddr_un, sun_path);
        std::size_t size = length > HEAD ? length - HEAD : 0;
        bool is_abstract = size > 0 && un.sun_path[0] == '\0';
        result.host.assign(un.sun_path, is_abstract ? size : ::strnlen(un.sun_path, size));
    }
    return result;
}

void Address::set_scope(std::uint32_t flowinfo, std::uint32_t scope_id) noexcept {
    if (family() != AF_INET6) return;
    auto& in = reinterpret_cast<sockaddr_in6&>(storage);
    if (flowinfo != 0) in.sin6_flowinfo = htonl(flowinfo);
    if (scope_id != 0) in.sin6_scope_id = scope_id;
}

CompactAddress::CompactAddress(const Address& address) {
    if (address.family() == AF_INET) {
        const auto& in = reinterpret_cast<const sockaddr_in&>(address.storage);
        bits_ = std::uint64_t{in.sin_addr.s_addr} << 32 | std::uint64_t{in.sin_port} << 16 | IPV4;
    } else if (address.family() == AF_UNIX && address.length <= offsetof(sockaddr_un, sun_path)) {
        bits_ = EMPTY_PATH;
    } else {
        auto* block = new std::byte[sizeof address.length + address.length];
        std::memcpy(block, &address.length, sizeof address.length);
        std::memcpy(block + sizeof address.length, &address.storage, address.length);
        bits_ = reinterpret_cast<std::uintptr_t>(block);
    }
}

CompactAddress::~CompactAddress() {
    if (!(bits_ & IN_PLACE)) delete[] block();
}

std::optional<SocketAddress> CompactAddress::public_form() const {
    if (bits_ == 0) return std::nullopt;
    if (bits_ == EMPTY_PATH) return SocketAddress();
    if ((bits_ & KIND) == IPV4) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = static_cast<in_port_t>(bits_ >> 16);
        in.sin_addr.s_addr = static_cast<in_addr_t>(bits_ >> 32);
        return Address(reinterpret_cast<const sockaddr*>(&in), sizeof in).public_form();
    }
    Address address;
    std::memcpy(&address.length, block(), sizeof address.length);
    std::memcpy(&address.storage, block() + sizeof address.length, address.length);
    return address.public_form();
}

std::optional<Address> numeric_address(const std::string& host, int port, int family) {
    const char* text = c_text(host);
    sockaddr_in v4{};
    if (family != AF_INET6 && ::inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(static_cast<std::uint16_t>(port));
        return Address(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
    }
    sockaddr_in6 v6{};
    if (family != AF_INET && ::inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(static_cast<std::uint16_t>(port));
        return Address(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
    }
    return std::nullopt;
}

Address kernel_address(const SocketAddress& address, int family) {
    if (family == AF_UNIX) {
        sockaddr_un un{};
        un.sun_family = AF_UNIX;
        bool is_abstract = address.host.empty() || address.host.front() == '\0';
        // A path has a NUL behind it; an abstract name has its length.
        if (!is_abstract) c_text(address.host, "embedded null byte");
        if (address.host.size() + (is_abstract ? 0 : 1) > sizeof un.sun_path)
            throw ValueError("AF_UNIX path too long");
        std::ranges::copy(address.host, un.sun_path);
        auto length = offsetof(sockaddr_un, sun_path) + address.host.size() + (is_abstract ? 0 : 1);
        return Address(reinterpret_cast<const sockaddr*>(&un), static_cast<socklen_t>(length));
    }
    check_port(address.port);
    const char* wildcard = family == AF_INET6 ? "::" : "0.0.0.0";
    auto found = numeric_address(address.host.empty() ? wildcard : address.host, address.port, family);
    if (!found)
        throw ValueError(fmt::format("'{}' is not a numeric address of the socket's family", address.host));
    found->set_scope(address.flowinfo, address.scope_id);
    return *found;
}

void check_port(int port) {
    if (port < 0 || port > 65535) throw ValueError(fmt::format("a port is 0 to 65535, not {}", port));
}

}  // namespace detail

std::string SocketAddress::describe() const { return to_string(*this); }

std::string to_string(const SocketAddress& address) {
    bool is_path = address.port == 0 && (address.host.empty() || address.host.front() == '\0' ||
                                         address.host.find('/') != std::string::npos);
    if (is_path) return fmt::format("'{}'", address.host);
    if (address.host.find(':') != std::string::npos) {
        return fmt::format("('{}', {}, {}, {})", address.host, address.port, address.flowinfo,
                           address.scope_id);
    }
    return fmt::format("('{}', {})", address.host, address.port);
}

}  // namespace coil
