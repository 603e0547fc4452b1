#pragma once

// Threads for calls that block, and the way of a result back to the loop.
//
// A job's life. The pool, then the inbox, then the ready queue hold a reference to it, besides whoever waits for the result:
//
//   queued     in the pool        a thread takes it: running, or, if it was called off, arriving; the loop closes: dropped
//   running    in its thread      nobody can stop it; done: arriving; if the loop is closed: dropped, in that thread
//   arriving   in the inbox, then the ready queue      arrived() in the loop's thread; the loop closes: dropped
//
// When a loop closes, it does not wait for calls that run: they end in the background. So a job shares what it works on, and
// refers to nothing that goes with the loop.

#include <atomic>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/box.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/detail/task_base.hpp"

namespace coil::detail {

/// What a thread of the pool does.
class Work {
  public:
    Work() = default;
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    virtual ~Work() = default;
    /// Once, in a thread of the pool, which gives its reference away.
    virtual void work(std::shared_ptr<Work> self) noexcept = 0;
    /// Instead: the pool broke before a thread took it.
    virtual void refused() noexcept {}
};

/// At most so many threads, made as they are needed: an idle one is used before another is made. First come, first served.
class WorkerPool {
  public:
    using Queue = std::deque<std::shared_ptr<Work>>;
    /// What a thread does first. False: the pool is broken. What is queued is refused.
    using Begin = std::function<bool()>;
    /// BLOCKED: signal handlers do not run in the threads. Where users' functions run signals are INHERITED: the children that
    /// these start would have them blocked, too, and ignore SIGTERM.
    enum class Signals { BLOCKED, INHERITED };

    /// The threads are called "NAMES_0" and so on, if they have names.
    explicit WorkerPool(std::size_t most_threads, Signals signals = Signals::BLOCKED, std::string names = {},
                        Begin begin = nullptr);
    /// Shuts down.
    ~WorkerPool();
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    /// Python's number: min(32, CPUs + 4).
    static std::size_t default_threads() noexcept;
    /// The loop's own, made on demand. Shut down when the loop closes.
    static WorkerPool& of(EventLoop& loop);

    /// RuntimeError if no thread can be had at all, after `close()` or `shutdown()`, or in a forked child; BrokenThreadPool.
    void submit(std::shared_ptr<Work> work);
    /// Nothing more is taken. The threads end when the queue is empty.
    void close() noexcept;
    /// Takes what no thread has begun.
    Queue take_queued();
    /// Waits for the threads to end, after `close()`. RuntimeError in one of them.
    void join();
    /// Instead of `join()`: they end in the background, when the queue is empty. The last call.
    void detach() noexcept;
    /// Drops what is queued and ends the idle threads. The others end in the background when their work is done.
    void shutdown() noexcept;
    /// False in a forked child, which has none of the threads: nothing more can be done with it.
    bool of_this_process() const noexcept;
    /// Threads there are now.
    std::size_t threads() const;
    /// "2 of 8 threads, 1 idle, 3 calls queued"
    std::string describe(std::string_view threads) const;

  private:
    struct State;
    std::shared_ptr<State> state_;  // the threads have it too
    bool detached_ = false;
};

/// A blocking call for a loop.
class Job : public Work, public Runnable {
  public:
    Job() noexcept : Runnable(&Job::arrive) {}

    /// Queues a job, in the loop's thread; again only after it has arrived. RuntimeError if no thread can be had.
    static void submit(std::shared_ptr<Job> job, EventLoop& loop);
    /// True: it has not begun, and never will.
    bool call_off() noexcept;
    /// Nobody waits for it any more: time may go on, on a loop of virtual time.
    void forget() noexcept;

  protected:
    /// In a thread of the pool.
    virtual void call() noexcept = 0;
    /// The call is over, or was called off: in the loop's thread, and never if the loop was closed.
    virtual void arrived() = 0;
    /// Keeps the job until the ready queue has run it: for one that does not come from a thread.
    static void keep(std::shared_ptr<Job> job) noexcept {
        Job& kept = *job;
        kept.keeps_itself_ = std::move(job);
    }
    /// Gives that up again.
    std::shared_ptr<Job> stop_keeping() noexcept { return std::move(keeps_itself_); }

  private:
    void work(std::shared_ptr<Work> self) noexcept final;
    static void arrive(Runnable& self, How how);

    std::shared_ptr<Inbox> inbox_;
    std::shared_ptr<Job> keeps_itself_;  // while the inbox or the ready queue has it
    LoopCore* core_ = nullptr;           // set while somebody waits; the loop's thread only
    std::atomic<bool> begun_{false};     // or called off: whoever is first
};

/// What becomes of an exception that a call throws when nobody waits for its result any more.
enum class LateError { REPORT, DROP };

class WorkerWait;

/// A job that one task waits for, and may stop waiting for at any time.
class AwaitedJob : public Job {
  public:
    AwaitedJob(std::string what, LateError late) : what_(std::move(what)), late_(late) {}

  protected:
    std::exception_ptr error_;

  private:
    friend WorkerWait;
    template <class>
    friend struct LayoutOf;
    void arrived() final;

    WorkerWait* waiter_ = nullptr;  // the loop's thread only
    std::string what_;
    LateError late_;
};

class WorkerWait final : public LeafWaiter, public OperationTag {
  public:
    explicit WorkerWait(AwaitedJob& job) noexcept : job_(job) {}
    ~WorkerWait() { forget(); }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        job_.waiter_ = this;
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const override { return job_.what_; }

  private:
    template <class>
    friend struct LayoutOf;

    void called_off() noexcept override {
        job_.call_off();
        forget();
    }
    void forget() noexcept {
        job_.waiter_ = nullptr;
        job_.forget();
    }
    AwaitedJob& job_;
};

template <class F, class R>
class CallJob final : public AwaitedJob {
  public:
    CallJob(std::string what, F function, LateError late)
        : AwaitedJob(std::move(what), late), function_(std::move(function)) {}

    R take() {
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
        return result_.take();
    }

  private:
    void call() noexcept override {
        try {
            if constexpr (std::is_void_v<R>) {
                std::invoke(function_);
            } else {
                result_.emplace(std::invoke(function_));
            }
        } catch (...) {
            error_ = std::current_exception();
        }
    }

    F function_;
    [[no_unique_address]] Box<R> result_;
};

/// Calls `f()` in a thread of the loop's pool; gives its result or throws its exception. A cancelled wait is over at once: a
/// call that has not begun never does, one that runs ends in the background. So `f` owns what it uses. `what` says what a
/// stuck task waits for.
template <class F, class R = std::invoke_result_t<F&>>
Coro<R> in_worker(std::string what, F f, LateError late = LateError::REPORT) {
    auto job = std::make_shared<CallJob<F, R>>(std::move(what), std::move(f), late);
    Job::submit(job, *thread_state.loop);
    WorkerWait wait(*job);
    co_await std::move(wait);
    co_return job->take();
}

}  // namespace coil::detail
