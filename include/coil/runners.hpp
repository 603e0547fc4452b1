#pragma once

// run: a whole program's life on a loop. Runner: several runs on one loop.

#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include "coil/contextvars.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/events.hpp"
#include "coil/tasks.hpp"

namespace coil {

/// Makes the loop: `uring_loop`, `epoll_loop`, or any function.
using LoopFactory = std::unique_ptr<EventLoop> (*)();

struct RunOptions {
    std::optional<bool> debug{};         // nothing: what COIL_DEBUG says
    LoopFactory loop_factory = nullptr;  // null: new_event_loop()
};

struct RunnerRunOptions {
    const Context* context = nullptr;  // null: the runner's own, the same for all its runs
};

/// One loop and one context for several runs in one thread. Tasks that a run leaves behind stay until `close()`.
///
/// In the main thread, if SIGINT has its default action: while a run lasts, the first SIGINT cancels the main task, and `run`
/// throws KeyboardInterrupt unless the task refused; another one throws KeyboardInterrupt out of the loop at once.
class Runner {
  public:
    explicit Runner(RunOptions options = {}) : debug_(options.debug), factory_(options.loop_factory) {}
    /// A factory with a state of its own.
    explicit Runner(Function<std::unique_ptr<EventLoop>()> factory, std::optional<bool> debug = {})
        : debug_(debug), factory_(std::move(factory)) {}
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;
    /// Closes; what that throws is logged.
    ~Runner();

    /// Runs the coroutine; gives its result or throws its exception. RuntimeError while a loop runs in this thread. If nobody
    /// catches the exception, std::terminate prints its traceback first: see traceback.hpp.
    template <class T>
    T run(Coro<T> coro, RunnerRunOptions options = {}) {
        begin();
        Context context = options.context ? *options.context : context_.value();
        Task<T> task = loop_->create_task(std::move(coro), {.context = &context}, std::source_location());
        run_task(task.state());
        if constexpr (std::is_reference_v<T>) {
            return *static_cast<std::remove_reference_t<T>*>(task.state().value());
        } else if constexpr (!std::is_void_v<T>) {
            return std::move(*static_cast<T*>(task.state().value()));
        }
    }
    /// In one line, see format.hpp.
    std::string describe() const;
    /// The loop, made on demand. RuntimeError after `close()`.
    EventLoop& get_loop();
    /// Cancels all tasks and waits for them, reports their failures, closes asynchronous generators, closes the loop.
    void close();

  private:
    void begin();
    void make_loop();
    void run_task(detail::FutureBase& task);
    void cancel_all_tasks();

    std::optional<bool> debug_;
    Function<std::unique_ptr<EventLoop>()> factory_;
    std::unique_ptr<EventLoop> loop_;
    std::optional<Context> context_;
    bool set_current_ = false;
    bool closed_ = false;
};

namespace detail {
void check_no_running_loop();
void end_before_rethrow(std::optional<Runner>& runner) noexcept;
}  // namespace detail

/// Makes a loop, runs the coroutine on it, then what `Runner::close()` does, also for an exception that nobody will catch.
/// RuntimeError while a loop runs in this thread.
template <class T>
T run(Coro<T> coro, RunOptions options = {}) {
    detail::check_no_running_loop();
    std::optional<Runner> runner(std::in_place, options);
    try {
        if constexpr (std::is_void_v<T>) {
            runner->run(std::move(coro));
            runner->close();
        } else {
            T result = runner->run(std::move(coro));
            runner->close();
            return result;
        }
    } catch (...) {
        detail::end_before_rethrow(runner);  // where nobody catches, nothing is destroyed
        throw;
    }
}

template <>
inline constexpr bool detail::DESCRIBED<Runner> = true;

}  // namespace coil
