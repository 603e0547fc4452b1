#include "coil/sockets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "coil/exceptions.hpp"
#include "io/address.hpp"

namespace coil {

static_assert(AF_UNIX == 1 && SOCK_STREAM == 1);  // the defaults of Socket::pair

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

std::string TransportSocket::describe() const {
    return fd_ < 0 ? "<Socket closed>" : fmt::format("<Socket descriptor {}>", fd_);
}

int TransportSocket::family() const { return getsockopt(SOL_SOCKET, SO_DOMAIN); }
int TransportSocket::type() const { return getsockopt(SOL_SOCKET, SO_TYPE); }

Socket::Socket(int family, int type, int protocol)
    : TransportSocket(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)) {
    if (fd_ < 0) throw_os_error(errno);
}

Socket Socket::adopt(int fd) {
    int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) throw_os_error(errno);
    Socket socket;
    socket.fd_ = fd;
    return socket;
}

std::pair<Socket, Socket> Socket::pair(int family, int type) {
    std::array<int, 2> fds{};
    if (::socketpair(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) < 0) throw_os_error(errno);
    std::pair<Socket, Socket> both;
    both.first.fd_ = fds[0];
    both.second.fd_ = fds[1];
    return both;
}

void Socket::bind(const SocketAddress& address) const {
    detail::Address kernel = detail::kernel_address(address, family());
    if (::bind(fd_, kernel.data(), kernel.length) < 0) throw_os_error(errno);
}

void Socket::listen(int backlog) const {
    if (::listen(fd_, backlog) < 0) throw_os_error(errno);
}

void Socket::shutdown(int how) const {
    if (::shutdown(fd_, how) < 0) throw_os_error(errno);
}

void Socket::close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace coil
