#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "coil/exceptions.hpp"
#include "platform/poller.hpp"

namespace coil::detail {

Wakeup::Wakeup() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) throw_os_error(errno);
}

Wakeup::~Wakeup() { ::close(fd_); }

void Wakeup::wake() noexcept {
    int before = errno;  // a signal handler must leave it alone
    std::uint64_t one = 1;
    // Fails only when the counter is full, and then the loop has been woken anyway.
    [[maybe_unused]] ssize_t written = ::write(fd_, &one, sizeof one);
    errno = before;
}

bool in_main_thread() noexcept { return ::getpid() == ::gettid(); }
int process_id() noexcept { return ::getpid(); }
int thread_id() noexcept { return ::gettid(); }

}  // namespace coil::detail
