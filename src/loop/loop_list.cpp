#include "loop/loop_list.hpp"

#include <pthread.h>

#include <mutex>

#include "platform/poller.hpp"

namespace coil::detail {

constinit LoopCore* first_loop = nullptr;

namespace {

constinit std::mutex mutex;

int forking_thread = 0;

void before_fork() {
    mutex.lock();
    forking_thread = thread_id();
}

/// A child has the thread that forked, and no other one that ran a loop.
void after_fork_in_child() {
    for (LoopCore* loop = first_loop; loop; loop = loop->next) {
        bool here = loop->thread.load(std::memory_order_relaxed) == forking_thread;
        loop->thread.store(here ? thread_id() : 0, std::memory_order_relaxed);
    }
    mutex.unlock();
}

[[maybe_unused]] const int registered =
    ::pthread_atfork(&before_fork, [] { mutex.unlock(); }, &after_fork_in_child);

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
