#pragma once

// A task without its result's type, and how a coroutine of a task is suspended and resumed.
//
//   state            waiting_on_   in ready queue     leaves by
//   queued           null          yes                the loop runs step()
//   running          null          no                 the coroutine suspends or ends; innermost_ follows it
//   waiting          the waiter    no                 the waiter calls wake(): queued
//   done             null          no                 -
//
// cancel() on a waiting task asks the waiter. If that can still be called off, it is, and the task is queued to throw at
// its `co_await`. Otherwise (queued, running, or what it waits for is over already) must_cancel_ makes the next step throw.

#include <coroutine>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "coil/detail/future_base.hpp"
#include "coil/detail/list.hpp"
#include "coil/detail/thread_state.hpp"

namespace coil::detail {

class PromiseBase;

/// What a suspended task waits on. Lives in the waiting coroutine's frame.
class Waiter {
  public:
    /// Calls the wait off: false if it is over already. True: the task has been, or will be, woken.
    virtual bool cancel_wait(std::string_view message) = 0;
    /// "sleep", "Event.wait", "Task 'x'": what a list of stuck tasks shows.
    virtual std::string describe() const = 0;
    /// Adds the futures that it waits for.
    virtual void awaited(std::vector<FutureBase*>&) const {}

  protected:
    ~Waiter() = default;
};

/// One `co_await` of a coroutine: links the frames, so that a chain can be walked, resumed and destroyed from its end.
struct Awaiter {
    std::coroutine_handle<> child_;   // null where the child is somebody else's: a generator's frame
    std::coroutine_handle<> parent_;  // set, with its promise, when the await begins
    PromiseBase* parent_promise_;
};

/// "Task-N", or a text of the program's.
class TaskName {
  public:
    /// Empty: the next number.
    explicit TaskName(std::string_view text);
    TaskName(const TaskName&) = delete;
    TaskName& operator=(const TaskName&) = delete;
    ~TaskName();
    void set(std::string_view text);
    std::string text() const;

  private:
    template <class>
    friend struct LayoutOf;

    std::uintptr_t bits_;  // odd: twice the number; else a std::string*
};

class TaskBase : public FutureBase, public Runnable, public ListNode {
  public:
    TaskBase(EventLoop& loop, std::coroutine_handle<> root, PromiseBase& promise, const TaskOptions& options);

    bool is_task() const noexcept final { return true; }
    bool cancel(std::string_view message) final;
    int cancelling() const noexcept { return static_cast<int>(cancel_requests_); }
    int uncancel() noexcept;

    std::string get_name() const { return name_.text(); }
    void set_name(std::string_view name) { name_.set(name); }
    /// Line 0 where nobody knows.
    const std::source_location& created_at() const noexcept { return created_at_; }
    void set_created_at(const std::source_location& where) noexcept;
    Context get_context();
    ContextSlot& context() noexcept { return given_context_ ? *given_context_->slot : context_; }

    Waiter* waiting_on() const noexcept { return waiting_on_; }
    /// The innermost coroutine, also while it runs; null when the task is done.
    PromiseBase* innermost() const noexcept { return innermost_; }
    /// The running coroutine begins another one, or returns to the one before.
    void enter(PromiseBase& promise) noexcept { innermost_ = &promise; }
    std::string label() const final;
    void awaited(std::vector<FutureBase*>& futures) const final {
        if (waiting_on_) waiting_on_->awaited(futures);
        FutureBase::awaited(futures);
    }

    /// Begins: queues the first step, or runs it at once.
    void start(bool eager);
    /// Destroys the coroutine of a task that will never go on; reports it. For a loop that closes for good.
    void abandon() noexcept;

    // ---- for what the task waits on

    /// The current coroutine is suspended at `at`; `waiter` will call wake().
    void suspend(std::coroutine_handle<> at, PromiseBase& promise, Waiter* waiter) noexcept {
        resume_at_ = at;
        innermost_ = &promise;
        waiting_on_ = waiter;
    }
    /// Queues the next step. Once per suspension.
    void wake() noexcept { ready_->push(*this); }
    /// Suspended for one turn: there is nothing to call off.
    void yield() noexcept {
        waiting_on_ = nullptr;
        wake();
    }
    /// Whether the next step is to throw.
    bool cancellation_due() const noexcept { return must_cancel_; }
    /// Runs the coroutine until it suspends or ends.
    void step() {
        if (thread_state.run_watch) [[unlikely]]
            return step_watched();
        go_on();
    }
    /// Keeps what a called-off wait throws.
    void set_wait_error(std::string_view message);
    [[noreturn]] void throw_wait_error();
    /// Whether this step is to throw, asked by the resumed waiter; resets it.
    bool take_cancellation() noexcept {
        bool due = throw_cancelled_;
        throw_cancelled_ = false;
        return due;
    }
    [[noreturn]] void throw_cancellation();
    ReadyQueue& ready() noexcept { return *ready_; }

  protected:
    ~TaskBase() override;

    /// Moves the finished coroutine's result into the task: the value, or gives the exception.
    virtual std::exception_ptr take_result() = 0;
    ContextSlot* report_context() noexcept final { return &context(); }
    const char* kind() const noexcept final { return "Task"; }

    std::coroutine_handle<> root_;

  private:
    template <class>
    friend struct LayoutOf;

    static void run(Runnable& self, How how);
    void go_on();
    void step_watched();
    void complete();
    void end();
    void destroy_frames() noexcept;

    std::coroutine_handle<> resume_at_;
    PromiseBase* innermost_;
    Waiter* waiting_on_ = nullptr;
    ReadyQueue* ready_;
    ContextSlot context_;
    Ref<ContextState> given_context_;
    std::exception_ptr cancel_error_;  // what must_cancel_ throws; null: without a message
    std::exception_ptr wait_error_;    // the same for a wait called off
    TaskName name_;
    std::source_location created_at_;
    std::uint32_t created_;  // of coarse_milliseconds()
    std::uint32_t cancel_requests_ : 29 = 0;
    bool started_ : 1 = false;
    bool must_cancel_ : 1 = false;
    bool throw_cancelled_ : 1 = false;
};

/// The task whose step runs now; RuntimeError outside of one.
TaskBase& require_current_task(const char* operation);

/// Destroys suspended frames from the innermost outward, so that a long chain needs no deep recursion.
void destroy_chain(PromiseBase* innermost, std::coroutine_handle<> root) noexcept;

/// A wait for something that one wake() ends: the common part of sleeps, locks, queues, sockets.
///
///     PENDING ──wake()────► WOKEN      await_resume: on_resume() of the derived class, unless the task was
///        └──cancel_wait()─► CANCELLED  cancelled meanwhile: then release() first, then CancelledError
class LeafWaiter : public Waiter {
  public:
    LeafWaiter() noexcept = default;
    LeafWaiter(const LeafWaiter&) = delete;
    LeafWaiter& operator=(const LeafWaiter&) = delete;

    bool pending() const noexcept { return task_ && state_ == State::PENDING; }
    bool woken() const noexcept { return state_ == State::WOKEN; }
    bool wait_cancelled() const noexcept { return state_ == State::CANCELLED; }
    /// What it waited for has come.
    void wake() noexcept {
        state_ = State::WOKEN;
        task_->wake();
    }
    bool cancel_wait(std::string_view message) override {
        if (state_ != State::PENDING) return false;
        task_->set_wait_error(message);
        state_ = State::CANCELLED;
        called_off();
        task_->wake();
        return true;
    }

  protected:
    ~LeafWaiter() = default;

    /// The wait was called off: leave the timer heap or the list of whoever would have called wake().
    virtual void called_off() noexcept {}

    /// The same where `node` comes first in the task's place: it runs the task's step, or waits again.
    void wake_by(Runnable& node) noexcept {
        state_ = State::WOKEN;
        task_->ready().push(node);
    }
    void wait_again() noexcept { state_ = State::PENDING; }

    template <class Promise>
    void suspend(std::coroutine_handle<Promise> at) noexcept {
        task_ = thread_state.task;
        state_ = State::PENDING;
        task_->suspend(at, at.promise(), this);
    }
    TaskBase& task() const noexcept { return *task_; }
    bool suspended() const noexcept { return task_ != nullptr; }
    /// True if CancelledError is to be thrown: look at once after resumption.
    bool cancellation_due() noexcept {
        cancelled_late_ = task_->take_cancellation();
        return cancelled_late_ || state_ == State::CANCELLED;
    }
    [[noreturn]] void throw_cancelled() {
        if (state_ == State::CANCELLED) task_->throw_wait_error();
        task_->throw_cancellation();
    }
    void throw_if_cancelled() {
        if (cancellation_due()) throw_cancelled();
    }

    TaskBase* task_ = nullptr;

  private:
    enum class State : std::uint8_t { PENDING, WOKEN, CANCELLED };
    State state_ = State::PENDING;
    bool cancelled_late_ = false;
};

}  // namespace coil::detail
