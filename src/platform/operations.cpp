#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "platform/poller.hpp"

namespace coil::detail {

namespace {

std::int64_t call(const KernelOp& operation) noexcept {
    bool here = operation.offset < 0;  // the descriptor's own position
    switch (operation.kind) {
        case KernelOp::Kind::OPEN:
            return ::open(operation.path, operation.flags, operation.mode);
        case KernelOp::Kind::READ:
            return here ? ::read(operation.fd, operation.memory, operation.size)
                        : ::pread(operation.fd, operation.memory, operation.size, operation.offset);
        case KernelOp::Kind::WRITE:
            return here ? ::write(operation.fd, operation.memory, operation.size)
                        : ::pwrite(operation.fd, operation.memory, operation.size, operation.offset);
        case KernelOp::Kind::SYNC:
            return ::fsync(operation.fd);
        case KernelOp::Kind::SYNC_DATA:
            return ::fdatasync(operation.fd);
        case KernelOp::Kind::STATUS:
            return ::statx(operation.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS,
                           static_cast<struct statx*>(operation.memory));
        case KernelOp::Kind::TRUNCATE:
            return ::ftruncate(operation.fd, operation.offset);
        case KernelOp::Kind::CLOSE:
            return ::close(operation.fd);
    }
    errno = ENOSYS;
    return -1;
}

}  // namespace

void perform(KernelOp& operation) noexcept {
    // Of close(), EINTR says that the descriptor is closed.
    do {
        operation.result = call(operation);
        if (operation.result < 0) operation.result = -errno;
    } while (operation.result == -EINTR && operation.kind != KernelOp::Kind::CLOSE);
}

}  // namespace coil::detail
