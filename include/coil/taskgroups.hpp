#pragma once

// TaskGroup: tasks that end together. `co_await async_with(TaskGroup(), body)` ends when the body and all children have; the
// first failure cancels the rest, and all errors come out as one ExceptionGroup.

#include <exception>
#include <memory>
#include <source_location>
#include <utility>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/list.hpp"
#include "coil/tasks.hpp"

namespace coil {

namespace detail {

class TaskGroupState : public Pooled {
  public:
    TaskGroupState() = default;
    TaskGroupState(const TaskGroupState&) = delete;
    ~TaskGroupState();

    void enter();
    Coro<bool> exit(std::exception_ptr error);
    void cancel();
    EventLoop& check_accepting() const;
    void add(FutureBase& task);
    std::string describe() const;

  private:
    template <class>
    friend struct LayoutOf;

    struct Child;
    class AllDone;

    void abort();
    void child_done(Child& child);

    List<Child> children_;
    AllDone* waiting_ = nullptr;  // exit(), while it waits for the children
    Ref<TaskBase> parent_;
    EventLoop* loop_ = nullptr;
    std::vector<std::exception_ptr> errors_;
    std::exception_ptr interrupt_;  // a KeyboardInterrupt of the body or a child: comes out alone
    bool exiting_ = false;
    bool aborting_ = false;
    bool parent_cancelled_ = false;  // by this group, once; taken back at the exit
    bool cancel_on_entry_ = false;
};

}  // namespace detail

class TaskGroup {
  public:
    TaskGroup() : state_(new detail::TaskGroupState) {}

    /// A child of this group. RuntimeError before the block is entered, after it is left, and while it shuts down.
    template <class T>
    Task<T> create_task(Coro<T> coro, TaskOptions options = {},
                        std::source_location where = std::source_location::current()) {
        EventLoop& loop = state_->check_accepting();
        Task<T> task = loop.create_task(std::move(coro), options, where);
        state_->add(task.state());
        return task;
    }
    /// Ends the children and the body; the block then ends without CancelledError. Before the entry: takes effect there. After
    /// the exit: nothing.
    void cancel() { state_->cancel(); }
    /// In one line, see format.hpp.
    std::string describe() const { return state_->describe(); }

    TaskGroup& enter() {
        state_->enter();
        return *this;
    }
    Coro<bool> aexit(std::exception_ptr error) { return state_->exit(std::move(error)); }

  private:
    std::unique_ptr<detail::TaskGroupState> state_;
};

template <>
inline constexpr bool detail::DESCRIBED<TaskGroup> = true;

}  // namespace coil
