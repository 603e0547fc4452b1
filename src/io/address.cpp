#include "io/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <array>
#include <cerrno>

#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

SocketAddress Address::public_form() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (family() == AF_INET) {
        const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
        ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
        return {text.data(), ntohs(in.sin_port)};
    }
    if (family() == AF_INET6) {
        const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
        ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
        return {text.data(), ntohs(in.sin6_port)};
    }
    if (family() == AF_UNIX) {
        const auto& un = reinterpret_cast<const sockaddr_un&>(storage);
        std::size_t size =
            length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
        return {std::string(un.sun_path, ::strnlen(un.sun_path, size)), 0};
    }
    return {};
}

std::optional<Address> numeric_address(const std::string& host, int port) {
    sockaddr_in v4{};
    if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(static_cast<std::uint16_t>(port));
        return Address(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
    }
    sockaddr_in6 v6{};
    if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(static_cast<std::uint16_t>(port));
        return Address(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
    }
    return std::nullopt;
}

void check_port(int port) {
    if (port < 0 || port > 65535) throw ValueError(fmt::format("a port is 0 to 65535, not {}", port));
}

}  // namespace detail

std::string to_string(const SocketAddress& address) {
    return fmt::format("('{}', {})", address.host, address.port);
}

SocketAddress TransportSocket::getsockname() const {
    detail::Address address;
    if (::getsockname(fd_, address.data(), &address.length) < 0) throw_os_error(errno);
    return address.public_form();
}

SocketAddress TransportSocket::getpeername() const {
    detail::Address address;
    if (::getpeername(fd_, address.data(), &address.length) < 0) throw_os_error(errno);
    return address.public_form();
}

int TransportSocket::getsockopt(int level, int option) const {
    int value = 0;
    socklen_t size = sizeof value;
    if (::getsockopt(fd_, level, option, &value, &size) < 0) throw_os_error(errno);
    return value;
}

void TransportSocket::setsockopt(int level, int option, int value) const {
    if (::setsockopt(fd_, level, option, &value, sizeof value) < 0) throw_os_error(errno);
}

}  // namespace coil
