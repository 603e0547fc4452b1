#include "loop/loop_list.hpp"

#include <pthread.h>

#include <mutex>

namespace coil::detail {

constinit LoopCore* first_loop = nullptr;

namespace {

constinit std::mutex mutex;

/// In a forked child: the threads that ran loops are its parent's.
void forked() {
    for (LoopCore* loop = first_loop; loop; loop = loop->next)
        loop->thread.store(0, std::memory_order_relaxed);
    mutex.unlock();
}

[[maybe_unused]] const int registered =
    ::pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, &forked);

}  // namespace

void list_loop(LoopCore& loop) noexcept {
    std::scoped_lock lock(mutex);
    loop.next = first_loop;
    if (first_loop) first_loop->previous = &loop;
    first_loop = &loop;
}

void unlist_loop(LoopCore& loop) noexcept {
    std::scoped_lock lock(mutex);
    if (loop.next) loop.next->previous = loop.previous;
    (loop.previous ? loop.previous->next : first_loop) = loop.next;
}

}  // namespace coil::detail
