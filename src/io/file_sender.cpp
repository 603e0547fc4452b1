#include "io/file_sender.hpp"

#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "coil/exceptions.hpp"
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
        // The file cannot be mapped (a pipe, some file systems), or the socket cannot take pages.
        if (total_ == 0 && (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == ESPIPE))
            return Step::UNSUPPORTED;
        throw_os_error(error);
    }
}

std::string_view FileSender::read_chunk() {
    if (!chunk_) chunk_ = std::make_unique_for_overwrite<char[]>(CHUNK);
    auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left(), CHUNK));
    ssize_t got = 0;
    do {
        got = ::pread(file_, chunk_.get(), size, static_cast<off_t>(offset_ + total_));
    } while (got < 0 && errno == EINTR);
    if (got < 0) throw_os_error(errno);
    if (got == 0) ended_ = true;
    return {chunk_.get(), static_cast<std::size_t>(got)};
}

}  // namespace coil::detail
