#include "coil/tasks.hpp"

#include <fmt/format.h>

#include <atomic>
#include <utility>

#include "coil/async_generators.hpp"
#include "coil/log.hpp"
#include "core/inspection.hpp"
#include "core/step_watch.hpp"
#include "core/trails.hpp"
#include "loop/hooks.hpp"
#include "loop/report.hpp"

namespace coil {

namespace detail {

namespace {

std::atomic<std::uint64_t> tasks_named{0};

/// Makes a task, and its context, current for one step.
class StepScope {
  public:
    explicit StepScope(TaskBase& task) noexcept
        : task_(std::exchange(thread_state.task, &task)), context_(task.context()) {}
    ~StepScope() { thread_state.task = task_; }
    StepScope(const StepScope&) = delete;
    StepScope& operator=(const StepScope&) = delete;

  private:
    TaskBase* task_;
    ContextScope context_;
};

void destroy_tasks(EventLoop& loop) {
    List<TaskBase>& tasks = loop.core().tasks;
    while (TaskBase* task = tasks.front()) {
        loop.core().ready.discard();  // the task may have been woken by what another one released as it went
        task->abandon();
    }
    while (AsyncGeneratorBase* generator = loop.core().asyncgens.front()) generator->unlink();
}

[[maybe_unused]] const bool hooked = [] {
    loop_hooks.destroy_tasks = &destroy_tasks;
    loop_hooks.running_lines = [] {
        return thread_state.task ? lines_of(*thread_state.task) : std::vector<std::source_location>();
    };
    loop_hooks.name_run = [](Runnable::Function function) {
        return function == &SleepWaiter::run ? "the timer of a sleep" : nullptr;
    };
    return true;
}();

}  // namespace

TaskName::TaskName(std::string_view text) {
    if (text.empty()) {
        bits_ =
            static_cast<std::uintptr_t>(2 * (tasks_named.fetch_add(1, std::memory_order_relaxed) + 1) + 1);
    } else {
        bits_ = reinterpret_cast<std::uintptr_t>(new std::string(text));
    }
}

TaskName::~TaskName() {
    if (bits_ % 2 == 0) delete reinterpret_cast<std::string*>(bits_);
}

void TaskName::set(std::string_view text) {
    auto* made = new std::string(text);
    if (bits_ % 2 == 0) delete reinterpret_cast<std::string*>(bits_);
    bits_ = reinterpret_cast<std::uintptr_t>(made);
}

std::string TaskName::text() const {
    if (bits_ % 2 == 0) return *reinterpret_cast<std::string*>(bits_);
    return "Task-" + std::to_string(bits_ / 2);
}

TaskBase::TaskBase(EventLoop& loop, std::coroutine_handle<> root, PromiseBase& promise,
                   const TaskOptions& options)
    : FutureBase(loop),
      Runnable(&TaskBase::run),
      root_(root),
      resume_at_(root),
      innermost_(&promise),
      ready_(&loop.core().ready),
      name_(options.name),
      created_(coarse_milliseconds()) {
    if (options.context) {
        given_context_ = options.context->state();
    } else {
        context_.map = current_context().map;
    }
}

TaskBase::~TaskBase() { destroy_frames(); }

namespace {

/// A task's own context, seen through a Context: it keeps the task.
struct TaskContext final : ContextState {
    explicit TaskContext(TaskBase& owner) : task(&owner) { slot = &owner.context(); }
    Ref<TaskBase> task;
};

}  // namespace

Context TaskBase::get_context() {
    if (given_context_) return Context(given_context_);
    return Context(Ref<ContextState>(new TaskContext(*this)));
}

void TaskBase::set_created_at(const std::source_location& where) noexcept {
    created_at_ = where;
    if (EventLoop* loop = loop_if_alive(); loop && loop->get_debug()) [[unlikely]]
        keep_creation_place(where);
}

std::string TaskBase::label() const { return fmt::format("Task '{}'", get_name()); }

namespace {

/// Tasks that wait for each other in a circle would pass a cancellation on for ever. CPython's RecursionError.
class CancelDepth {
  public:
    CancelDepth() {
        if (depth_ == MOST)
            throw RuntimeError("cancel(): tasks wait for each other in a circle, or in a chain of thousands");
        ++depth_;
    }
    ~CancelDepth() { --depth_; }
    CancelDepth(const CancelDepth&) = delete;
    CancelDepth& operator=(const CancelDepth&) = delete;

  private:
    static constexpr unsigned MOST = 20'000;
    static constinit thread_local unsigned depth_;
};
constinit thread_local unsigned CancelDepth::depth_ = 0;

}  // namespace

bool TaskBase::cancel(std::string_view message) {
    mark_retrieved();
    if (done()) return false;
    CancelDepth depth;
    ++cancel_requests_;
    if (waiting_on_ && waiting_on_->cancel_wait(message)) return true;
    must_cancel_ = true;
    cancel_error_ = message.empty() ? nullptr : std::make_exception_ptr(CancelledError(message));
    return true;
}

int TaskBase::uncancel() noexcept {
    if (cancel_requests_ > 0 && --cancel_requests_ == 0) must_cancel_ = false;
    return cancelling();
}

void TaskBase::set_wait_error(std::string_view message) {
    wait_error_ = message.empty() ? nullptr : std::make_exception_ptr(CancelledError(message));
}

void TaskBase::throw_wait_error() {
    if (auto error = std::exchange(wait_error_, nullptr)) {
        begin_trail(error);
        std::rethrow_exception(error);
    }
    throw CancelledError();
}

void TaskBase::throw_cancellation() {
    if (auto error = std::exchange(cancel_error_, nullptr)) {
        begin_trail(error);
        std::rethrow_exception(error);
    }
    throw CancelledError();
}

void TaskBase::start(bool eager) {
    if (eager) {
        step();
    } else {
        wake();
    }
}

void TaskBase::run(Runnable& self, How how) {
    if (how == How::RUN) static_cast<TaskBase&>(self).step();
}

void TaskBase::step_watched() {
    Ref<TaskBase> keep(this);
    StepWatch watch(*this);
    go_on();
}

void TaskBase::go_on() {
    StepScope scope(*this);
    waiting_on_ = nullptr;
    if (must_cancel_) {
        must_cancel_ = false;
        if (!started_) {
            // A body that has not begun does not begin.
            destroy_frames();
            settle_cancelled(std::exchange(cancel_error_, nullptr));
            return end();
        }
        throw_cancelled_ = true;
    }
    started_ = true;
    resume_at_.resume();
    while (void* next = std::exchange(thread_state.transfer, nullptr))
        std::coroutine_handle<>::from_address(next).resume();
    throw_cancelled_ = false;
    if (root_.done()) return complete();
    if (must_cancel_ && waiting_on_) {
        // cancel() came while it ran: call off what it waits for now.
        std::string message;
        if (cancel_error_) {
            try {
                std::rethrow_exception(cancel_error_);
            } catch (const CancelledError& e) {
                message = e.message();
            }
        }
        if (waiting_on_->cancel_wait(message)) must_cancel_ = false;
    }
}

void TaskBase::complete() {
    std::exception_ptr error;
    try {
        error = take_result();
    } catch (...) {  // the result's move constructor
        error = std::current_exception();
    }
    destroy_frames();
    if (!error) {
        if (must_cancel_) {
            must_cancel_ = false;
            settle_cancelled(std::exchange(cancel_error_, nullptr));
        } else {
            set_finished();
        }
        return end();
    }
    if (is_cancelled_error(error)) {
        settle_cancelled(std::move(error));
        return end();
    }
    bool interrupt = is_interrupt(error);
    settle_error(error);
    end();
    if (interrupt) std::rethrow_exception(error);
}

void TaskBase::end() {
    unlink();
    release();  // the loop's
}

void TaskBase::abandon() noexcept {
    unlink();
    try {
        ExceptionContext context{.message = "Task was destroyed but it is pending!"};
        context.future_state = this;
        context.details.emplace("task", describe_stuck(*this));
        add_creation(context, this);
        ContextScope scope(this->context());
        get_loop().call_exception_handler(context);
    } catch (...) {
        log(LogLevel::ERROR_, "an exception handler threw while a pending task was destroyed");
    }
    waiting_on_ = nullptr;
    destroy_frames();
    forget_callbacks();  // they may hold this task through others
    release();
}

void TaskBase::destroy_frames() noexcept {
    if (!root_) return;
    destroy_chain(std::exchange(innermost_, nullptr), std::exchange(root_, nullptr));
}

void destroy_chain(PromiseBase* innermost, std::coroutine_handle<> root) noexcept {
    while (innermost) {
        Awaiter* awaiter = innermost->awaiter();
        if (!awaiter) break;
        innermost = awaiter->parent_promise_;
        if (awaiter->child_) std::exchange(awaiter->child_, nullptr).destroy();
    }
    root.destroy();
}

TaskBase& require_current_task(const char* operation) {
    if (!thread_state.task) throw RuntimeError(std::string(operation) + " must be used inside a task");
    return *thread_state.task;
}

EventLoop& running_loop_for_task() { return get_running_loop(); }

void start_task(EventLoop& loop, TaskBase& task, const TaskOptions& options) {
    loop.core().tasks.push_back(task);
    task.retain();
    task.start(options.eager_start.value_or(false) && thread_state.loop == &loop);
}

Ref<FutureBase> create_task_by_factory(EventLoop& loop, AnyCoro coro, const TaskOptions& options,
                                       const std::source_location& where) {
    TaskFactory factory = loop.get_task_factory();
    Ref<FutureBase> made = factory(loop, std::move(coro), options).handle();
    if (!made) throw TypeError("the task factory gave no task");
    static_cast<TaskBase&>(*made).set_created_at(where);
    return made;
}

// ---- sleep

void SleepWaiter::begin() {
    EventLoop& loop = *thread_state.loop;
    loop.core().timers.add(deadline_after(loop.time(), delay_), *this);
}

void SleepWaiter::called_off() noexcept {
    if (scheduled()) task().get_loop().core().timers.remove(*this);
}

void SleepWaiter::run(Runnable& self, How how) {
    auto& sleep = static_cast<SleepWaiter&>(self);
    if (how == How::RUN && sleep.pending()) sleep.LeafWaiter::wake();
}

std::string SleepWaiter::describe() const {
    std::string text = fmt::format("sleep({}s)", std::chrono::duration<double>(delay_).count());
    if (!scheduled()) return text;
    EventLoop& loop = task().get_loop();
    std::chrono::duration<double> left = loop.core().timers.deadline(*this) - loop.time();
    return fmt::format("{}, due in {:.3f}s", text, left.count());
}

// ---- running

namespace {

struct StopLoop final : DoneCallable {
    void call(FutureBase& future) override {
        if (!is_interrupt(future.stored_error())) future.get_loop().stop();
    }
    const std::type_info& type() const noexcept override { return typeid(StopLoop); }
};

}  // namespace

void run_until_done(EventLoop& loop, FutureBase& future, bool own_task) {
    loop.check_can_run();
    Ref<FutureBase> keep(&future);
    if (future.loop_if_alive() != &loop)
        throw ValueError(
            "The future belongs to a different loop than the one specified as the loop argument");
    Ref<DoneCallable> stop(new StopLoop);
    future.add_done_callback(stop, {});
    try {
        loop.run_forever();
    } catch (...) {
        if (own_task && future.done()) future.mark_retrieved();  // what leaves here may be its exception
        future.remove_done_callback(*stop);
        throw;
    }
    future.remove_done_callback(*stop);
    if (!future.done()) throw RuntimeError("Event loop stopped before Future completed.");
}

}  // namespace detail

detail::Ref<detail::FutureBase> AnyCoro::make_task(EventLoop& loop, const TaskOptions& options) && {
    if (!frame_) detail::throw_already_awaited();
    detail::Ref<detail::FutureBase> task(make_(loop, frame_, options));
    frame_ = nullptr;
    detail::start_task(loop, static_cast<detail::TaskBase&>(*task), options);
    return task;
}

Task<> eager_task_factory(EventLoop& loop, AnyCoro coro, const TaskOptions& options) {
    TaskOptions eager = options;
    if (!eager.eager_start) eager.eager_start = true;
    return Task<>(std::move(coro), loop, eager);
}

TaskFactory create_eager_task_factory(TaskFactory constructor) {
    return [constructor = std::move(constructor)](EventLoop& loop, AnyCoro coro, const TaskOptions& options) {
        TaskOptions eager = options;
        if (!eager.eager_start) eager.eager_start = true;
        return constructor(loop, std::move(coro), eager);
    };
}

namespace {

Task<> handle_of(detail::TaskBase* task) {
    return task ? Task<>(detail::Ref<detail::FutureBase>(task)) : Task<>();
}

}  // namespace

Task<> current_task() {
    get_running_loop();
    return handle_of(detail::thread_state.task);
}

Task<> current_task(EventLoop& loop) {
    return detail::thread_state.loop == &loop ? handle_of(detail::thread_state.task) : Task<>();
}

std::vector<Task<>> all_tasks() { return all_tasks(get_running_loop()); }

std::vector<Task<>> all_tasks(EventLoop& loop) {
    std::vector<Task<>> tasks;
    const auto& list = loop.core().tasks;
    for (detail::TaskBase* task = list.front(); task; task = list.after(*task))
        tasks.push_back(handle_of(task));
    return tasks;
}

}  // namespace coil
