// The loop's sock_ methods: try at once, wait until the descriptor is ready, try again.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "coil/dns.hpp"
#include "coil/exceptions.hpp"
#include "coil/sockets.hpp"
#include "io/address.hpp"
#include "io/fd_wait.hpp"
#include "io/file_sender.hpp"
#include "loop/descriptors.hpp"

namespace coil {

namespace {

using detail::FdWait;

void check(EventLoop& loop, int fd) {
    loop.check_closed();
    detail::check_descriptor_is_free(loop.core(), fd);
    if (!loop.get_debug()) return;
    int flags = ::fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK)) throw ValueError("the socket must be non-blocking");
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

/// Calls `attempt`, which gives a size or -1, until the descriptor does not make it wait.
template <class Attempt>
Coro<std::size_t> repeat(EventLoop& loop, int fd, FdWait::For direction, const char* name, Attempt attempt) {
    check(loop, fd);
    for (;;) {
        ssize_t size = attempt();
        if (size >= 0) co_return static_cast<std::size_t>(size);
        if (errno == EINTR) continue;
        if (!would_block(errno)) throw_os_error(errno);
        co_await FdWait(loop, fd, direction, name);
    }
}

Coro<std::string> receive(EventLoop& loop, int fd, std::size_t size) {
    std::string data;
    auto attempt = [&]() -> ssize_t {
        // Memory is taken when there is something to put into it.
        std::size_t step = std::min(size, std::size_t{256 * 1024});
        auto buffer = std::make_unique_for_overwrite<char[]>(step);
        ssize_t got = ::recv(fd, buffer.get(), step, 0);
        if (got > 0) data.assign(buffer.get(), static_cast<std::size_t>(got));
        return got;
    };
    co_await repeat(loop, fd, FdWait::For::READING, "sock_recv", attempt);
    co_return data;
}

Coro<std::pair<std::string, SocketAddress>> receive_from(EventLoop& loop, int fd, std::size_t size) {
    std::string data;
    detail::Address from;
    auto attempt = [&]() -> ssize_t {
        auto buffer = std::make_unique_for_overwrite<char[]>(size);
        from.length = sizeof from.storage;
        ssize_t got = ::recvfrom(fd, buffer.get(), size, 0, from.data(), &from.length);
        if (got > 0) data.assign(buffer.get(), static_cast<std::size_t>(got));
        return got;
    };
    co_await repeat(loop, fd, FdWait::For::READING, "sock_recvfrom", attempt);
    SocketAddress address = from.public_form();
    co_return {std::move(data), std::move(address)};
}

Coro<std::pair<std::size_t, SocketAddress>> receive_from_into(EventLoop& loop, int fd,
                                                              std::span<std::byte> buffer) {
    detail::Address from;
    auto attempt = [&] {
        from.length = sizeof from.storage;
        return ::recvfrom(fd, buffer.data(), buffer.size(), 0, from.data(), &from.length);
    };
    std::size_t size = co_await repeat(loop, fd, FdWait::For::READING, "sock_recvfrom_into", attempt);
    SocketAddress address = from.public_form();
    co_return {size, std::move(address)};
}

Coro<> send_all(EventLoop& loop, int fd, detail::Bytes data) {
    std::string_view rest = data.view();
    check(loop, fd);
    while (!rest.empty()) {
        auto attempt = [&] { return ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL); };
        std::size_t sent = co_await repeat(loop, fd, FdWait::For::WRITING, "sock_sendall", attempt);
        rest.remove_prefix(sent);
    }
}

Coro<std::size_t> send_to(EventLoop& loop, int fd, detail::Bytes data, SocketAddress address) {
    check(loop, fd);
    detail::Address to = detail::kernel_address(address, TransportSocket(fd).family());
    auto attempt = [&] {
        return ::sendto(fd, data.view().data(), data.view().size(), MSG_NOSIGNAL, to.data(), to.length);
    };
    co_return co_await repeat(loop, fd, FdWait::For::WRITING, "sock_sendto", attempt);
}

Coro<> connect_socket(EventLoop& loop, int fd, SocketAddress address) {
    check(loop, fd);
    TransportSocket socket(fd);
    int family = socket.family();
    if (family != AF_UNIX && !address.host.empty() &&
        !detail::numeric_address(address.host, address.port, family)) {
        detail::check_port(address.port);
        auto found =
            co_await loop.getaddrinfo(address.host, address.port, {.family = family, .type = socket.type()});
        address = found.front().address;
    }
    detail::Address to = detail::kernel_address(address, family);
    co_await detail::connect_descriptor(loop, fd, to);
}

Coro<std::pair<Socket, SocketAddress>> accept_one(EventLoop& loop, int fd) {
    detail::Address from;
    auto attempt = [&]() -> ssize_t {
        from.length = sizeof from.storage;
        return ::accept4(fd, from.data(), &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    };
    auto accepted = static_cast<int>(co_await repeat(loop, fd, FdWait::For::READING, "sock_accept", attempt));
    Socket connection = Socket::adopt_nonblocking(accepted);
    SocketAddress address = from.public_form();
    co_return {std::move(connection), std::move(address)};
}

Coro<std::size_t> send_file(EventLoop& loop, int fd, int file, std::int64_t offset,
                            std::optional<std::int64_t> count, SendfileOptions options) {
    check(loop, fd);
    if (TransportSocket(fd).type() != SOCK_STREAM)
        throw ValueError("only SOCK_STREAM type sockets are supported");
    detail::FileSender sender(file, offset, count);
    while (!sender.done()) {
        switch (sender.step(fd)) {
            case detail::FileSender::Step::SENT:
                break;
            case detail::FileSender::Step::WAIT:
                co_await FdWait(loop, fd, FdWait::For::WRITING, "sock_sendfile");
                break;
            case detail::FileSender::Step::UNSUPPORTED: {
                if (!options.fallback) sender.throw_unavailable();
                std::string_view chunk = co_await sender.read_chunk();
                while (!chunk.empty()) {
                    auto attempt = [&] { return ::send(fd, chunk.data(), chunk.size(), MSG_NOSIGNAL); };
                    std::size_t sent =
                        co_await repeat(loop, fd, FdWait::For::WRITING, "sock_sendfile", attempt);
                    sender.sent_by_hand(sent);
                    chunk.remove_prefix(sent);
                }
                break;
            }
        }
    }
    co_return sender.total();
}

}  // namespace

Coro<> detail::connect_descriptor(EventLoop& loop, int fd, Address to) {
    int error = 0;
    if (::connect(fd, to.data(), to.length) < 0) {
        error = errno;
        // EAGAIN: a Unix socket's queue is full; there is nothing to wait for.
        if (error == EINPROGRESS || error == EINTR) {
            co_await FdWait(loop, fd, FdWait::For::WRITING, "sock_connect");
            socklen_t size = sizeof error;
            if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
        }
    }
    if (error != 0) throw_os_error(error, fmt::format("Connect call failed {}", to_string(to.public_form())));
}

Coro<std::string> EventLoop::sock_recv(FileDescriptor socket, std::size_t size) {
    return receive(*this, socket.fileno(), size);
}

Coro<std::size_t> EventLoop::sock_recv_into(FileDescriptor socket, std::span<std::byte> buffer) {
    int fd = socket.fileno();
    auto attempt = [=] { return ::recv(fd, buffer.data(), buffer.size(), 0); };
    return repeat(*this, fd, FdWait::For::READING, "sock_recv_into", attempt);
}

Coro<std::pair<std::string, SocketAddress>> EventLoop::sock_recvfrom(FileDescriptor socket,
                                                                     std::size_t size) {
    return receive_from(*this, socket.fileno(), size);
}

Coro<std::pair<std::size_t, SocketAddress>> EventLoop::sock_recvfrom_into(FileDescriptor socket,
                                                                          std::span<std::byte> buffer,
                                                                          std::size_t size) {
    if (size > buffer.size()) throw ValueError("size is larger than the buffer");
    if (size > 0) buffer = buffer.first(size);
    return receive_from_into(*this, socket.fileno(), buffer);
}

Coro<> EventLoop::sock_sendall(FileDescriptor socket, detail::Bytes data) {
    return send_all(*this, socket.fileno(), std::move(data));
}

Coro<std::size_t> EventLoop::sock_sendto(FileDescriptor socket, detail::Bytes data, SocketAddress address) {
    return send_to(*this, socket.fileno(), std::move(data), std::move(address));
}

Coro<> EventLoop::sock_connect(FileDescriptor socket, SocketAddress address) {
    return connect_socket(*this, socket.fileno(), std::move(address));
}

Coro<std::pair<Socket, SocketAddress>> EventLoop::sock_accept(FileDescriptor socket) {
    return accept_one(*this, socket.fileno());
}

Coro<std::size_t> EventLoop::sock_sendfile(FileDescriptor socket, FileDescriptor file, std::int64_t offset,
                                           std::optional<std::int64_t> count, SendfileOptions options) {
    return send_file(*this, socket.fileno(), file.fileno(), offset, count, options);
}

}  // namespace coil
