#include "loop/loop_list.hpp"

#include <pthread.h>

#include <mutex>

namespace coil::detail {

constinit LoopCore* first_loop = nullptr;

namespace {

constinit std::mutex mutex;

[[maybe_unused]] const int registered =
    ::pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });

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
