#include "platform/poller.hpp"

#include <poll.h>
#include <sys/epoll.h>

namespace coil::detail {

// epoll and io_uring report the same bits as poll(2).
static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP);
static_assert(POLLRDHUP == EPOLLRDHUP);

std::uint8_t Poller::events_of(const Watch& watch, unsigned mask) noexcept {
    unsigned events = 0;
    if (watch.mode == Watch::Mode::LEVEL) {
        // An error or a hang-up wakes both directions, as Python's selectors have it.
        if (mask & ~unsigned{POLLOUT}) events |= READABLE;
        if (mask & ~unsigned{POLLIN}) events |= WRITABLE;
        return static_cast<std::uint8_t>(events & watch.interest);
    }
    if (mask & (POLLIN | POLLPRI | POLLRDHUP | POLLHUP | POLLERR)) events |= READABLE;
    if (mask & (POLLOUT | POLLHUP | POLLERR)) events |= WRITABLE;
    if (mask & (POLLRDHUP | POLLHUP | POLLERR)) events |= CLOSED;
    return static_cast<std::uint8_t>(events);
}

}  // namespace coil::detail
