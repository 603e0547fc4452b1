#include "coil/runners.hpp"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "coil/log.hpp"
#include "coil/traceback.hpp"
#include "core/trails.hpp"
#include "loop/hooks.hpp"
#include "loop/signal_routes.hpp"

namespace coil {

namespace detail {

void check_no_running_loop() {
    if (thread_state.loop) throw RuntimeError("asyncio.run() cannot be called from a running event loop");
}

namespace {

std::terminate_handler terminate_before = nullptr;

/// As Python ends after a Ctrl-C that nobody caught: by the signal, so that a shell knows. Returns if it is blocked.
void end_by_interrupt() noexcept {
    std::signal(SIGINT, SIG_DFL);  // first: another thread may have locked the streams
    std::fflush(stdout);
    std::fflush(stderr);
    std::raise(SIGINT);
}

/// The exception's way is known only here: the text that a program ends with by itself has its type and message.
[[noreturn]] void report_and_terminate() {
    if (std::exception_ptr error = std::current_exception()) {
        try {
            print_exception(error);
        } catch (...) {  // nothing more can be said
        }
        if (is_interrupt(error)) end_by_interrupt();
    }
    terminate_before();
    std::abort();
}

/// An exception is about to leave run(). If nobody catches it, its traceback is printed. To be called before it is thrown: an
/// exception that meets a noexcept function calls the handler that was set when it was thrown.
void report_if_uncaught() noexcept {
    static std::once_flag once;
    std::call_once(once, [] { terminate_before = std::set_terminate(&report_and_terminate); });
}

/// SIGINT during a run: the first cancels the main task, the next throws out of the loop. A loop that is stuck in a callback
/// sees neither: the third unseen one ends the process, see signal_routes.cpp.
class InterruptScope {
  public:
    InterruptScope(EventLoop& loop, FutureBase& main_task) : loop_(loop), task_(main_task) {
        if (!in_main_thread() || !has_default_action(SIGINT)) return;
        loop_hooks.interrupt = [](EventLoop& interrupted, unsigned count) {
            if (current) current->arrived(interrupted, count);
        };
        before_ = std::exchange(current, this);
        active_ = true;
        route_signal(SIGINT, loop.core().inbox, WhenStuck::END_THE_PROCESS);
    }
    ~InterruptScope() {
        if (!active_) return;
        unroute_signal(SIGINT, *loop_.core().inbox, WhenStuck::END_THE_PROCESS);
        current = before_;
    }
    InterruptScope(const InterruptScope&) = delete;
    InterruptScope& operator=(const InterruptScope&) = delete;

    bool interrupted() const noexcept { return count_ > 0; }

  private:
    void arrived(EventLoop& loop, unsigned count) {
        if (&loop != &loop_) return;
        bool first = count_ == 0;
        count_ += count;
        if (first && !task_.done()) task_.cancel({});
        if (count_ > 1 || task_.done()) throw KeyboardInterrupt();
    }

    static inline InterruptScope* current = nullptr;  // of the main thread

    EventLoop& loop_;
    FutureBase& task_;
    InterruptScope* before_ = nullptr;
    unsigned count_ = 0;
    bool active_ = false;
};

/// Stops waiting once every task of the list is done: what gather() would do, one layer up.
class Countdown final : public DoneCallable {
  public:
    Countdown(Future<> all_done, std::size_t count) : all_done_(std::move(all_done)), left_(count) {}
    void call(FutureBase&) override {
        if (--left_ == 0) all_done_.set_result();
    }
    const std::type_info& type() const noexcept override { return typeid(Countdown); }

  private:
    Future<> all_done_;
    std::size_t left_;
};

}  // namespace

void end_before_rethrow(std::optional<Runner>& runner) noexcept {
    // The last tasks are cancelled: exceptions enough to push this one's trail out.
    keep_in_flight(std::current_exception(), [&] { runner.reset(); });
}

}  // namespace detail

std::string Runner::describe() const {
    return fmt::format("<Runner {}>", closed_ ? "closed" : loop_ ? loop_->describe() : "without a loop yet");
}

Runner::~Runner() {
    try {
        close();
    } catch (...) {
        log(LogLevel::ERROR_, "closing a Runner failed: " + describe_exception(std::current_exception()));
    }
}

void Runner::make_loop() {
    if (closed_) throw RuntimeError("Runner is closed");
    if (loop_) return;
    if (factory_) {
        loop_ = factory_();
        if (!loop_) throw TypeError("the loop factory gave no loop");
    } else {
        loop_ = new_event_loop();
        set_event_loop(loop_.get());
        set_current_ = true;
    }
    if (debug_) loop_->set_debug(*debug_);
    context_ = copy_context();
}

EventLoop& Runner::get_loop() {
    make_loop();
    return *loop_;
}

void Runner::begin() {
    if (detail::thread_state.loop)
        throw RuntimeError("Runner.run() cannot be called from a running event loop");
    make_loop();
}

void Runner::run_task(detail::FutureBase& task) {
    auto& main_task = static_cast<detail::TaskBase&>(task);
    detail::InterruptScope interrupts(*loop_, task);
    try {
        detail::run_until_done(*loop_, task, true);
    } catch (...) {  // a KeyboardInterrupt, or the loop was stopped
        detail::report_if_uncaught();
        std::rethrow_exception(std::current_exception());  // unlike `throw;` by the handler that is set now
    }
    if (task.cancelled() || task.stored_error()) detail::report_if_uncaught();
    if (task.cancelled() && interrupts.interrupted() && main_task.uncancel() == 0) throw KeyboardInterrupt();
    task.check_result();
}

void Runner::cancel_all_tasks() {
    std::vector<Task<>> tasks = all_tasks(*loop_);
    if (tasks.empty()) return;
    Future<> all_done = loop_->create_future();
    detail::Ref<detail::DoneCallable> countdown(new detail::Countdown(all_done, tasks.size()));
    for (Task<>& task : tasks) task.cancel();
    for (Task<>& task : tasks) task.state().add_done_callback(countdown, {});
    detail::run_until_done(*loop_, all_done.state(), false);
    for (Task<>& task : tasks) {
        if (task.cancelled()) continue;
        if (std::exception_ptr error = task.exception()) {
            ExceptionContext context{.message = "unhandled exception during asyncio.run() shutdown",
                                     .exception = error};
            context.details.emplace("task", task.state().describe());
            context.future_state = &task.state();
            loop_->call_exception_handler(context);
        }
    }
}

namespace {

/// What `shutdown_default_executor()` does where there can be none.
Coro<> shutdown_no_executor(EventLoop& loop) {
    loop.core().executor_shut_down = true;
    co_return;
}

}  // namespace

void Runner::close() {
    if (closed_) return;
    if (!loop_) {
        closed_ = true;
        return;
    }
    if (loop_->is_running()) throw RuntimeError("Cannot close a Runner whose loop is running");
    closed_ = true;
    std::exception_ptr error;
    try {
        cancel_all_tasks();
        loop_->run_until_complete(loop_->shutdown_asyncgens());
        constexpr std::chrono::minutes JOIN_TIMEOUT{5};
        auto* shutdown = detail::loop_hooks.shutdown_default_executor;
        loop_->run_until_complete(shutdown ? shutdown(*loop_, JOIN_TIMEOUT) : shutdown_no_executor(*loop_));
    } catch (...) {
        error = std::current_exception();
    }
    if (set_current_) set_event_loop(nullptr);
    loop_->close();
    loop_.reset();
    if (error) std::rethrow_exception(error);
}

}  // namespace coil
