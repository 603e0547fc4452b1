#include "coil/pipes.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <any>
#include <array>
#include <cerrno>

#include "coil/exceptions.hpp"
#include "io/stream_transport.hpp"
#include "io/without_sigpipe.hpp"

namespace coil::detail {

namespace {

class PipeTransport : public StreamTransport {
  public:
    std::any get_extra_info(std::string_view name) const override {
        if (name == "pipe" && socket()) return fd();
        return {};
    }

  protected:
    using StreamTransport::StreamTransport;
    const char* kind() const noexcept override { return "pipe transport"; }
    ssize_t receive(std::span<std::byte> buffer) noexcept override {
        return ::read(fd(), buffer.data(), buffer.size());
    }
    ssize_t send(std::span<const std::string_view> parts) noexcept override {
        std::array<iovec, WriteBuffer::MAX_PARTS> vectors;
        for (std::size_t i = 0; i < parts.size(); ++i)
            vectors[i] = {const_cast<char*>(parts[i].data()), parts[i].size()};  // writev only reads it
        ssize_t size = 0;
        int error = 0;
        {
            WithoutSigpipe guard;
            size = ::writev(fd(), vectors.data(), static_cast<int>(parts.size()));
            error = errno;
            if (size < 0 && error == EPIPE) guard.raised();
        }
        errno = error;
        return size;
    }
    void shut_writing() noexcept override {}
};

class ReadPipeTransport final : public PipeTransport {
  public:
    ReadPipeTransport(EventLoop& loop, Socket descriptor, std::shared_ptr<StreamingProtocol> protocol)
        : PipeTransport(loop, std::move(descriptor), std::move(protocol)) {
        set_direction(READS);
    }
    void write_eof() override { throw RuntimeError("this transport is for reading only"); }
    bool can_write_eof() const override { return false; }

  private:
    void read_ended() override {
        begin_closing();
        loop_.call_soon([me = self(), protocol = get_protocol()] { protocol->eof_received(); });
        queue_connection_lost(nullptr);
    }
};

class WritePipeTransport final : public PipeTransport {
  public:
    WritePipeTransport(EventLoop& loop, Socket descriptor, std::shared_ptr<StreamingProtocol> protocol)
        : PipeTransport(loop, std::move(descriptor), std::move(protocol)) {
        set_direction(WRITES);
    }
    void write_eof() override { close(); }

  private:
    void peer_closed() override { force_close(write_buffer().empty() ? nullptr : make_os_error(EPIPE)); }
};

Socket take_pipe(int fd) {
    if (fd < 0) throw ValueError("a file descriptor is not negative");
    Socket pipe = Socket::adopt_nonblocking(fd);  // from here on it is ours to close
    struct stat status{};
    if (::fstat(fd, &status) < 0) {
        int error = errno;
        pipe.detach();
        throw_os_error(error);
    }
    if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode) && !S_ISCHR(status.st_mode))
        throw ValueError("Pipe transport is only for pipes, sockets and character devices");
    return Socket::adopt(pipe.detach());
}

template <class PipeKind>
Coro<AnyConnected> connect_pipe(EventLoop& loop, AnyProtocolFactory factory, Socket pipe) {
    loop.check_closed();
    auto protocol = factory();
    co_return co_await start_transport(loop, std::make_shared<PipeKind>(loop, std::move(pipe), protocol),
                                       protocol);
}

}  // namespace

Coro<AnyConnected> connect_read_pipe(EventLoop& loop, AnyProtocolFactory factory, int fd) {
    return connect_pipe<ReadPipeTransport>(loop, std::move(factory), take_pipe(fd));
}

Coro<AnyConnected> connect_write_pipe(EventLoop& loop, AnyProtocolFactory factory, int fd) {
    return connect_pipe<WritePipeTransport>(loop, std::move(factory), take_pipe(fd));
}

}  // namespace coil::detail
