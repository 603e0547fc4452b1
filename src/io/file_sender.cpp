#include "io/file_sender.hpp"

#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "coil/exceptions.hpp"
#include "io/file_operation.hpp"
#include "io/without_sigpipe.hpp"

namespace coil::detail {

namespace {

constexpr std::size_t CHUNK = 256 * 1024;

}  // namespace

FileSender::FileSender(int file, std::int64_t offset, std::optional<std::int64_t> count)
    : file_(file), offset_(static_cast<std::uint64_t>(offset)) {
    if (offset < 0) throw ValueError("offset must be a non-negative integer");
    if (count && *count <= 0) throw ValueError("count must be a positive integer");
    if (count) count_ = static_cast<std::uint64_t>(*count);
    struct stat status{};
    if (::fstat(file, &status) < 0) throw_os_error(errno);
}

FileSender::~FileSender() { ::lseek(file_, static_cast<off_t>(offset_ + total_), SEEK_SET); }

FileSender::Step FileSender::step(int socket) {
    if (by_hand_) return Step::UNSUPPORTED;
    constexpr std::uint64_t MOST = std::uint64_t{1} << 30;
    for (;;) {
        auto at = static_cast<off_t>(offset_ + total_);
        ssize_t size = 0;
        int error = 0;
        {
            WithoutSigpipe guard;
            size = ::sendfile(socket, file_, &at, std::min(left(), MOST));
            error = errno;
            if (size < 0 && error == EPIPE) guard.raised();
        }
        if (size > 0) {
            total_ += static_cast<std::size_t>(size);
            return Step::SENT;
        }
        if (size == 0) {
            ended_ = true;
            return Step::SENT;
        }
        if (error == EINTR) continue;
        if (error == EAGAIN) return Step::WAIT;
        if (total_ == 0) {
            error_ = error;
            return Step::UNSUPPORTED;
        }
        if (error == ENOTCONN) throw ConnectionError(error, "socket is not connected");
        throw_os_error(error);
    }
}

void FileSender::throw_unavailable() const {
    throw SendfileNotAvailableError("the kernel cannot send this file by sendfile(): " +
                                    std::generic_category().message(error_));
}

Coro<std::string_view> FileSender::read_chunk() {
    if (!reading_) {
        // As asyncio: what has no places (a pipe) is refused. io_uring would read it.
        if (::lseek(file_, static_cast<off_t>(offset_ + total_), SEEK_SET) < 0) throw_os_error(errno);
        reading_ = std::make_shared<FileOperation>(KernelOp::Kind::READ, "sendfile");
        // Not a copy: closing one would drop the process's locks on the file. A thread that outlives the loop reads at an offset,
        // into the operation's own memory, which does no harm wherever the number then belongs.
        reading_->fd = file_;
        reading_->buffer.resize(CHUNK);
        reading_->memory = reading_->buffer.data();
    }
    reading_->size = static_cast<std::size_t>(std::min<std::uint64_t>(left(), CHUNK));
    reading_->offset = static_cast<std::int64_t>(offset_ + total_);
    FileWait wait(reading_);
    co_await std::move(wait);
    auto got = static_cast<std::size_t>(reading_->take_result());
    if (got == 0) ended_ = true;
    co_return std::string_view(reading_->buffer).substr(0, got);
}

}  // namespace coil::detail
