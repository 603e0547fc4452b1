#pragma once

// Task<T>: a coroutine that runs beside others on the loop. The loop keeps a task alive until it is done, whatever
// handles exist; its exception is reported if nobody has looked at it when the last handle goes.

#include <iosfwd>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/detail/operation.hpp"
#include "coil/futures.hpp"
#include "coil/stacks.hpp"

namespace coil {

template <class T>
class Task : public Future<T> {
  public:
    Task() noexcept = default;
    /// The view without a type of any task.
    template <class U>
        requires(std::is_void_v<T> && !std::is_void_v<U>)
    Task(const Task<U>& other) noexcept : Future<T>(other.handle()) {}
    /// Makes a task outside of the loop's factory: for factories.
    Task(AnyCoro coro, EventLoop& loop, const TaskOptions& options)
        requires std::is_void_v<T>;

    /// In one line, see format.hpp.
    std::string describe() const { return detail::describe_future(this->handle().get(), "Task"); }
    /// Asks the task to stop: CancelledError is thrown at its current or next `co_await`. Returns false only if the task is
    /// already done. The task may refuse; see `cancelling()`.
    bool cancel(std::string_view message = {}) { return this->state().cancel(message); }
    /// Requests to cancel so far, less what `uncancel()` took back.
    int cancelling() const { return task().cancelling(); }
    /// Takes one request back; at zero, one that was not delivered yet is withdrawn. Returns what is left.
    int uncancel() { return task().uncancel(); }

    std::string get_name() const { return task().get_name(); }
    void set_name(std::string_view name) { task().set_name(name); }
    Context get_context() const { return task().get_context(); }
    /// Where the task stands, outermost call first; empty when it is done.
    std::vector<StackFrame> get_stack() const { return detail::stack_of(task()); }
    void print_stack() const { detail::print_stack_of(task()); }
    void print_stack(std::ostream& out) const { detail::print_stack_of(task(), out); }

    template <class F>
        requires std::invocable<std::decay_t<F>&, Task<T>>
    DoneCallback add_done_callback(F&& f) {
        return this->template add_callback<Task<T>>(std::forward<F>(f), {});
    }
    template <class F>
        requires std::invocable<std::decay_t<F>&, Task<T>>
    DoneCallback add_done_callback(detail::InContext context, F&& f) {
        return this->template add_callback<Task<T>>(std::forward<F>(f), std::move(context.state));
    }
    DoneCallback add_done_callback(const DoneCallback& callback) {
        return Future<T>::add_done_callback(callback);
    }

    /// For coil's own layers: the state must be a task's.
    explicit Task(detail::Ref<detail::FutureBase> state) noexcept : Future<T>(std::move(state)) {}
    detail::TaskBase& task() const { return static_cast<detail::TaskBase&>(this->state()); }
};

namespace detail {

template <class T>
class TaskState final : public TaskBase {
  public:
    TaskState(EventLoop& loop, std::coroutine_handle<CoroPromise<T>> coro, const TaskOptions& options)
        : TaskBase(loop, coro, coro.promise(), options) {}
    void* value() noexcept override {
        if constexpr (std::is_void_v<T>) {
            return nullptr;
        } else {
            return const_cast<void*>(static_cast<const void*>(&box_.get()));
        }
    }
    bool has_value_type() const noexcept override { return !std::is_void_v<T>; }

  private:
    std::exception_ptr take_result() override {
        auto& promise = std::coroutine_handle<CoroPromise<T>>::from_address(root_.address()).promise();
        if (promise.exception()) return promise.exception();
        if constexpr (!std::is_void_v<T>) box_.emplace(promise.result().take());
        return nullptr;
    }
    [[no_unique_address]] Box<T> box_;
};

}  // namespace detail

/// A coroutine of any result type, not yet begun: what a task factory gets.
class AnyCoro {
  public:
    template <class T>
    AnyCoro(Coro<T> coro) : frame_(coro.release()), make_(&make<T>), destroy_(&destroy_frame) {}
    AnyCoro(AnyCoro&& other) noexcept
        : frame_(std::exchange(other.frame_, nullptr)), make_(other.make_), destroy_(other.destroy_) {}
    AnyCoro& operator=(AnyCoro&&) = delete;
    ~AnyCoro() {
        if (frame_) destroy_(frame_);
    }

    /// For coil's own layers: the state of a new task that owns the coroutine.
    detail::Ref<detail::FutureBase> make_task(EventLoop& loop, const TaskOptions& options) &&;

  private:
    using Frame = std::coroutine_handle<>;
    template <class T>
    static detail::TaskBase* make(EventLoop& loop, Frame frame, const TaskOptions& options) {
        return new detail::TaskState<T>(
            loop, std::coroutine_handle<detail::CoroPromise<T>>::from_address(frame.address()), options);
    }
    static void destroy_frame(Frame frame) noexcept { frame.destroy(); }

    Frame frame_;
    detail::TaskBase* (*make_)(EventLoop&, Frame, const TaskOptions&);
    void (*destroy_)(Frame) noexcept;
};

template <class T>
Task<T>::Task(AnyCoro coro, EventLoop& loop, const TaskOptions& options)
    requires std::is_void_v<T>
    : Future<T>(std::move(coro).make_task(loop, options)) {}

namespace detail {

/// Begins a task made by `make`: registers and queues it, or runs its first step.
Ref<FutureBase> create_task_by_factory(EventLoop& loop, AnyCoro coro, const TaskOptions& options,
                                       const std::source_location& where);
void start_task(EventLoop& loop, TaskBase& task, const TaskOptions& options);
EventLoop& running_loop_for_task();

}  // namespace detail

template <class T>
Task<T> EventLoop::create_task(Coro<T> coro, TaskOptions options, std::source_location where) {
    check_usable();
    if (core_.task_factory) [[unlikely]]
        return Task<T>(detail::create_task_by_factory(*this, AnyCoro(std::move(coro)), options, where));
    auto frame = coro.release();
    detail::TaskBase* task;
    try {
        task = new detail::TaskState<T>(*this, frame, options);
    } catch (...) {
        frame.destroy();
        throw;
    }
    task->set_created_at(where);
    Task<T> handle{detail::Ref<detail::FutureBase>(task)};
    detail::start_task(*this, *task, options);
    return handle;
}

/// Runs the coroutine as a task of the running loop: its first step comes in the next turn. RuntimeError without one. `where` is
/// what reports about the task name as the place of its creation.
template <class T>
Task<T> create_task(Coro<T> coro, TaskOptions options = {},
                    std::source_location where = std::source_location::current()) {
    return detail::running_loop_for_task().create_task(std::move(coro), options, where);
}

/// A task factory that begins every task at once, up to its first suspension.
Task<> eager_task_factory(EventLoop& loop, AnyCoro coro, const TaskOptions& options);
/// The same with another constructor of tasks.
TaskFactory create_eager_task_factory(TaskFactory constructor);

template <class T>
Task<T> ensure_future(Coro<T> coro, std::source_location where = std::source_location::current()) {
    return create_task(std::move(coro), {}, where);
}
template <class T>
Future<T> ensure_future(Future<T> future) {
    return future;
}
template <class T>
Task<T> ensure_future(Task<T> task) {
    return task;
}

/// True of futures and tasks.
template <class T>
constexpr bool isfuture(const T&) noexcept {
    return detail::FutureLike<T>;
}
/// True of coroutines.
template <class T>
constexpr bool iscoroutine(const T&) noexcept {
    return requires { typename detail::AwaitTraits<T>::Result; } && requires { typename T::promise_type; };
}

/// The task whose step runs now; an empty one in a plain callback. RuntimeError without a running loop.
Task<> current_task();
/// The tasks of the running loop that are not done, in order of creation.
std::vector<Task<>> all_tasks();
Task<> current_task(EventLoop& loop);
std::vector<Task<>> all_tasks(EventLoop& loop);

namespace detail {

/// A wait for the clock.
class SleepWaiter final : public LeafWaiter, private Timer {
  public:
    explicit SleepWaiter(Duration delay) noexcept : Timer(&SleepWaiter::run), delay_(delay) {}
    SleepWaiter(SleepWaiter&& other) noexcept : SleepWaiter(other.delay_) {}
    ~SleepWaiter() {
        if (scheduled()) called_off();
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        if (delay_ <= Duration::zero()) {
            task().yield();
        } else {
            begin();
        }
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const final;

    /// Queue function: the time has come.
    static void run(Runnable& self, How how);

  private:
    template <class>
    friend struct LayoutOf;

    void begin();
    void called_off() noexcept final;

    Duration delay_;
};

template <class T>
class Sleep final : public Operation<T> {
  public:
    Sleep(Duration delay, T result) : waiter_(delay), result_(std::move(result)) {}
    Sleep(Sleep&&) noexcept = default;

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        waiter_.await_suspend(at);
    }
    T await_resume() {
        waiter_.await_resume();
        return std::move(result_);
    }

  private:
    SleepWaiter waiter_;
    T result_;
};

template <>
class Sleep<void> final : public Operation<void> {
  public:
    explicit Sleep(Duration delay) noexcept : waiter_(delay) {}
    Sleep(Sleep&&) noexcept = default;

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        waiter_.await_suspend(at);
    }
    void await_resume() { waiter_.await_resume(); }

  private:
    SleepWaiter waiter_;
};

}  // namespace detail

/// Waits for `delay`; zero or less: lets everything that is ready run once. A Coro<>, or Coro<T> with a result.
template <class Rep, class Period>
[[nodiscard("co_await it")]] detail::Sleep<void> sleep(std::chrono::duration<Rep, Period> delay) {
    return detail::Sleep<void>(detail::to_duration(delay));
}
template <class Rep, class Period, class T>
[[nodiscard("co_await it")]] detail::Sleep<std::decay_t<T>> sleep(std::chrono::duration<Rep, Period> delay,
                                                                  T&& result) {
    return detail::Sleep<std::decay_t<T>>(detail::to_duration(delay), std::forward<T>(result));
}

namespace detail {

/// Runs the loop until the future is done. RuntimeError if it stopped before.
void run_until_done(EventLoop& loop, FutureBase& future, bool own_task);

}  // namespace detail

namespace detail {

template <class T>
T run_awaitable(EventLoop& loop, const Future<T>& future) {
    run_until_done(loop, future.state(), false);
    return static_cast<T>(future.result());
}
template <class T>
T run_awaitable(EventLoop& loop, Coro<T> coro) {
    loop.check_can_run();
    Task<T> task = loop.create_task(std::move(coro));
    run_until_done(loop, task.state(), true);
    task.state().check_result();
    if constexpr (std::is_reference_v<T>) {
        return *static_cast<std::remove_reference_t<T>*>(task.state().value());
    } else if constexpr (!std::is_void_v<T>) {
        return std::move(*static_cast<T*>(task.state().value()));
    }
}

}  // namespace detail

template <class A>
decltype(auto) EventLoop::run_until_complete(A&& awaitable) {
    check_closed();
    return detail::run_awaitable(*this, std::forward<A>(awaitable));
}

template <class T>
inline constexpr bool detail::DESCRIBED<Task<T>> = true;

}  // namespace coil
