#include "core/inspection.hpp"

#include <time.h>

#include "coil/tasks.hpp"
#include "loop/loop_list.hpp"

namespace coil::detail {

template <>
struct LayoutOf<ReadyQueue> {
    static constexpr std::size_t head = offsetof(ReadyQueue, head_);
};
template <>
struct LayoutOf<TimerHeap> {
    using Entry = TimerHeap::Entry;
    static constexpr std::size_t entries = offsetof(TimerHeap, entries_);
};
template <>
struct LayoutOf<FutureBase> {
    static constexpr std::size_t first = offsetof(FutureBase, first_);
};
template <>
struct LayoutOf<TaskBase> {
    static constexpr std::size_t waiting_on = offsetof(TaskBase, waiting_on_);
    static constexpr std::size_t innermost = offsetof(TaskBase, innermost_);
    static constexpr std::size_t name = offsetof(TaskBase, name_);
    static constexpr std::size_t created_at = offsetof(TaskBase, created_at_);
    static constexpr std::size_t created = offsetof(TaskBase, created_);
};
template <>
struct LayoutOf<PromiseBase> {
    static constexpr std::size_t awaiter = offsetof(PromiseBase, awaiter_);
    static constexpr std::size_t where = offsetof(PromiseBase, where_);
};
template <>
struct LayoutOf<SleepWaiter> {
    static constexpr InspectionPath delay = {offsetof(SleepWaiter, delay_)};
    static constexpr InspectionPath timer = {offsetof(SleepWaiter, index_)};
};
COIL_INSPECTION_ROWS(sleep) = {
    {"coil::detail::SleepWaiter", "sleep", InspectionKind::NAME, {}},
    {"coil::detail::SleepWaiter", "for", InspectionKind::SECONDS, LayoutOf<SleepWaiter>::delay},
    {"coil::detail::SleepWaiter", "due in", InspectionKind::TIMER, LayoutOf<SleepWaiter>::timer},
};

namespace {

[[gnu::used, gnu::retain, gnu::section(COIL_INSPECTION_ROOT_SECTION)]] constinit InspectionRoot root = {
    .magic = {'c', 'o', 'i', 'l', ' ', 'i', 'n', 's', 'p', 'e', 'c', 't', 'i', 'o', 'n'},
    .version = InspectionRoot::VERSION,
    .size = sizeof(InspectionRoot),
    .row_size = sizeof(InspectionRow),
    .first_loop = &first_loop,
    .loop_next = offsetof(LoopCore, next),
    .loop_tasks = offsetof(LoopCore, tasks),
    .loop_ready = offsetof(LoopCore, ready) + LayoutOf<ReadyQueue>::head,
    .loop_timers = offsetof(LoopCore, timers) + LayoutOf<TimerHeap>::entries,
    .loop_thread = offsetof(LoopCore, thread),
    .loop_running = offsetof(LoopCore, running),
    .runnable_function = offsetof(Runnable, function_),
    .runnable_next = offsetof(Runnable, next_),
    .timer_entry_size = sizeof(LayoutOf<TimerHeap>::Entry),
    .timer_entry_when = offsetof(LayoutOf<TimerHeap>::Entry, when),
    .list_prev = offsetof(ListNode, prev_),
    .list_next = offsetof(ListNode, next_),
    .future_first_waiter = LayoutOf<FutureBase>::first,
    .task_node = offsetof(TaskBase, prev_) - offsetof(ListNode, prev_),
    .task_runnable = offsetof(TaskBase, function_) - offsetof(Runnable, function_),
    .task_waiting_on = LayoutOf<TaskBase>::waiting_on,
    .task_innermost = LayoutOf<TaskBase>::innermost,
    .task_name = LayoutOf<TaskBase>::name,
    .task_created_at = LayoutOf<TaskBase>::created_at,
    .task_created = LayoutOf<TaskBase>::created,
    .promise_awaiter = LayoutOf<PromiseBase>::awaiter,
    .promise_where = LayoutOf<PromiseBase>::where,
    .awaiter_parent = offsetof(Awaiter, parent_promise_),
};

}  // namespace

std::uint32_t coarse_milliseconds() noexcept {
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::uint32_t>(now.tv_sec) * 1000 +
           static_cast<std::uint32_t>(now.tv_nsec / 1'000'000);
}

}  // namespace coil::detail
