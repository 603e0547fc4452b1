// Which loop is current: the running one, the one set for the thread, and the policy that makes them.

#include <pthread.h>

#include <mutex>

#include "coil/events.hpp"

namespace coil {

namespace {

std::mutex policy_mutex;
std::shared_ptr<EventLoopPolicy> policy;
thread_local EventLoop* loop_of_thread = nullptr;

/// A forked child has no running loop, whatever its parent ran.
[[maybe_unused]] const int forget_in_child =
    ::pthread_atfork(nullptr, nullptr, [] { detail::thread_state = detail::ThreadState{}; });

}  // namespace

EventLoop& get_running_loop() {
    if (EventLoop* loop = detail::thread_state.loop) return *loop;
    throw RuntimeError("no running event loop");
}

EventLoop& get_event_loop() {
    if (EventLoop* loop = detail::thread_state.loop) return *loop;
    return get_event_loop_policy().get_event_loop();
}

void set_event_loop(EventLoop* loop) { get_event_loop_policy().set_event_loop(loop); }
std::unique_ptr<EventLoop> new_event_loop() { return get_event_loop_policy().new_event_loop(); }
std::unique_ptr<EventLoop> uring_loop() { return std::make_unique<EventLoop>(Backend::URING); }
std::unique_ptr<EventLoop> epoll_loop() { return std::make_unique<EventLoop>(Backend::EPOLL); }

std::unique_ptr<EventLoop> EventLoopPolicy::new_event_loop() { return std::make_unique<EventLoop>(); }

EventLoop& EventLoopPolicy::get_event_loop() {
    if (!loop_of_thread)
        throw RuntimeError(
            "there is no current event loop in this thread: use run(), or set_event_loop() first");
    return *loop_of_thread;
}

void EventLoopPolicy::set_event_loop(EventLoop* loop) { loop_of_thread = loop; }

EventLoopPolicy& get_event_loop_policy() {
    std::lock_guard lock(policy_mutex);
    if (!policy) policy = std::make_shared<EventLoopPolicy>();
    return *policy;
}

void set_event_loop_policy(std::shared_ptr<EventLoopPolicy> new_policy) {
    std::lock_guard lock(policy_mutex);
    policy = std::move(new_policy);
}

}  // namespace coil
