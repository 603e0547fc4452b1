#pragma once

// The loop's state, open to the layers above: core queues tasks, io registers descriptors.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "coil/detail/function.hpp"
#include "coil/detail/list.hpp"
#include "coil/detail/ref.hpp"
#include "coil/detail/runnable.hpp"
#include "coil/detail/timer_heap.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

class AsyncGeneratorBase;
class Descriptors;
class FutureBase;
class Inbox;
class Poller;
class TaskBase;
class Tracer;

template <class>
inline constexpr bool IS_CORO = false;
template <class T>
inline constexpr bool IS_CORO<Coro<T>> = true;

/// Outlives the loop, so that a future can tell whether its loop still exists.
struct LoopAnchor {
    EventLoop* loop;
    unsigned count_ = 0;
    void retain() noexcept { ++count_; }
    void release() noexcept {
        if (--count_ == 0) delete this;
    }
};

/// What holds on to the kernel or to itself until the loop lets go: open transports, servers.
class LoopResource : public ListNode {
  public:
    virtual ~LoopResource() = default;
    /// The loop is closed. It is no longer in the loop's list.
    virtual void loop_closed() noexcept = 0;
};

struct LoopCore {
    LoopCore();
    ~LoopCore();

    ReadyQueue ready;
    TimerHeap timers;
    std::unique_ptr<Poller> poller;
    std::shared_ptr<Inbox> inbox;  // shared with whoever posts: it may outlive the loop
    std::unique_ptr<Descriptors> descriptors;
    Ref<LoopAnchor> anchor;
    Ref<Tracer> tracer;  // null: nothing is traced

    List<TaskBase> tasks;  // not done yet; each holds a reference of the loop's
    List<AsyncGeneratorBase> asyncgens;
    List<LoopResource> resources;
    std::vector<bool> transport_fds;           // descriptors that transports own: nobody else may watch them
    LoopResource* workers = nullptr;           // sync's threads for blocking calls: one of the resources
    LoopResource* default_executor = nullptr;  // sync's
    bool executor_shut_down = false;
    bool asyncgens_closed = false;
    bool had_signal_handlers = false;  // io's: others have nothing to do with what is the main thread's
    Function<Task<>(EventLoop&, AnyCoro, const TaskOptions&)> task_factory;

    // Of the process's list of loops, see src/loop/loop_list.hpp.
    LoopCore* next = nullptr;
    LoopCore* previous = nullptr;
    std::atomic<std::int32_t> thread{0};  // the kernel's number of the one of this process that ran it last

    std::atomic<bool> running{false};
    std::atomic<bool> closed{false};
    bool stopping = false;
    unsigned awaited_elsewhere = 0;  // waits for other threads: virtual time stands still meanwhile
    bool destroying = false;         // tasks are being taken down: nobody can be woken any more
    bool debug = false;
    bool watched = false;  // in debug mode or traced: each callback is looked at
    bool has_run = false;
    bool busy_turn = false;  // the last batch was long: a poll costs little beside it
};

/// Any duration as a Duration: saturates instead of overflowing; ValueError for not-a-number.
[[noreturn]] void throw_nan_delay();
template <class Rep, class Period>
Duration to_duration(std::chrono::duration<Rep, Period> d) {
    using Wide = std::chrono::duration<long double, std::nano>;
    if constexpr (std::is_floating_point_v<Rep>) {
        if (d.count() != d.count()) throw_nan_delay();
    }
    if constexpr (std::is_same_v<decltype(d), Duration>) {
        return d;
    } else {
        Wide wide = d;
        if (wide >= Wide(Duration::max())) return Duration::max();
        if (wide <= Wide(Duration::min())) return Duration::min();
        return std::chrono::duration_cast<Duration>(d);
    }
}

template <class D>
TimePoint to_time_point(std::chrono::time_point<std::chrono::steady_clock, D> when) {
    return TimePoint(to_duration(when.time_since_epoch()));
}

template <class Rep, class Period>
TimePoint deadline_after(TimePoint now, std::chrono::duration<Rep, Period> delay) {
    Duration d = to_duration(delay);
    return d > TimePoint::max() - now ? TimePoint::max() : now + d;
}

}  // namespace coil::detail
