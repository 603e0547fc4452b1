#pragma once

// Executors: they call functions elsewhere, so that the loop goes on while a function blocks or computes.
//
//     ThreadPoolExecutor pool(4);
//     auto digest = co_await loop.run_in_executor(&pool, sha256, file);

#include <atomic>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "coil/concurrent.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/detail/future_chain.hpp"
#include "coil/detail/invoke.hpp"
#include "coil/detail/range.hpp"
#include "coil/events.hpp"
#include "coil/futures.hpp"

namespace coil {

/// A function that an executor is to call, once. For those who write an executor.
class ExecutorCall {
  public:
    ExecutorCall() = default;
    ExecutorCall(const ExecutorCall&) = delete;
    ExecutorCall& operator=(const ExecutorCall&) = delete;
    virtual ~ExecutorCall() = default;

    /// Calls the function unless it was cancelled; its result, or what it throws, goes to the future.
    virtual void run() noexcept = 0;
    /// Ends the future without a call.
    virtual void cancel() noexcept = 0;
    virtual void fail(std::exception_ptr error) noexcept = 0;

    // ---- for executors whose functions run in other processes

    /// The name of a `process_function`; empty for every other function.
    virtual std::string_view remote_name() const noexcept { return {}; }
    /// Instead of run(): false if it was cancelled; else the arguments, as bytes, and finish() or fail() has to follow.
    virtual bool begin(std::string&) { return false; }
    virtual void finish(std::string_view) noexcept {}
};

struct ShutdownOptions {
    bool wait = true;             // block until all calls are over and the executor's threads are gone
    bool cancel_futures = false;  // cancel what has not begun
};

struct MapOptions {
    std::optional<Duration> timeout{};  // for all results together, from the call of map() on
};

namespace detail {

class WorkerPool;

template <class F, class... Args>
using CallResult = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;

/// A function that has a name in other processes, see <coil/process_pool.hpp>.
template <class F>
concept NamedInProcesses = requires { F::remote_name(); };

/// The future's state and the function, in one piece.
template <class R, class F, class... Args>
class ConcurrentCall final : public ConcurrentResult<R>, public ExecutorCall {
  public:
    template <class... Given>
    explicit ConcurrentCall(Given&&... given) : call_(std::in_place, std::forward<Given>(given)...) {}

    void run() noexcept override {
        if (!this->set_running_or_notify_cancel()) return call_.reset();
        try {
            if constexpr (std::is_void_v<R>) {
                call();
                call_.reset();
                this->set_result();
            } else {
                R result = call();
                call_.reset();
                this->set_result(std::forward<R>(result));
            }
        } catch (...) {
            call_.reset();
            this->set_exception(std::current_exception());
        }
    }
    void cancel() noexcept override { ConcurrentState::cancel(); }
    void fail(std::exception_ptr error) noexcept override {
        if (this->running() || this->set_running_or_notify_cancel()) this->set_exception(std::move(error));
    }

    std::string_view remote_name() const noexcept override {
        if constexpr (NamedInProcesses<F>) return F::remote_name();
        return {};
    }
    bool begin(std::string& arguments) override {
        if (!this->set_running_or_notify_cancel()) return false;
        if constexpr (NamedInProcesses<F>)
            std::apply([&](const F&, const Args&... args) { F::encode(arguments, args...); }, *call_);
        return true;
    }
    void finish(std::string_view bytes) noexcept override {
        if constexpr (NamedInProcesses<F>) {
            try {
                call_.reset();
                if constexpr (std::is_void_v<R>) {
                    this->set_result();
                } else {
                    this->set_result(F::template decode<R>(bytes));
                }
            } catch (...) {
                this->set_exception(std::current_exception());
            }
        }
    }

  private:
    R call() {
        return std::apply(
            []<class... Given>(Given&&... given) -> R {
                return detail::invoke(std::forward<Given>(given)...);
            },
            std::move(*call_));
    }

    std::optional<std::tuple<F, Args...>> call_;  // gone before the future is done
};

}  // namespace detail

/// The results of `map`, in the order of its arguments; the increment waits. What has not begun is cancelled when it goes.
template <class R>
class MapResults {
  public:
    MapResults(std::vector<concurrent::Future<R>> futures, std::optional<Duration> timeout)
        : futures_(std::move(futures)), deadline_(detail::real_deadline(timeout)) {}
    MapResults(MapResults&&) = default;
    ~MapResults() {
        for (auto& future : futures_) future.cancel();
    }

    class Iterator {
      public:
        using value_type = std::remove_cvref_t<R>;
        using difference_type = std::ptrdiff_t;
        /// Throws what the call has thrown, and TimeoutError.
        decltype(auto) operator*() const { return all_->result(index_); }
        Iterator& operator++() {
            ++index_;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return index_ == all_->futures_.size(); }

      private:
        friend MapResults;
        MapResults* all_ = nullptr;
        std::size_t index_ = 0;
    };
    Iterator begin() {
        Iterator first;
        first.all_ = this;
        return first;
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    decltype(auto) result(std::size_t index) {
        std::optional<Duration> left;
        if (deadline_) {
            left = *deadline_ - std::chrono::steady_clock::now();
            if (*left < Duration::zero()) left = Duration::zero();
        }
        return futures_[index].result(left);
    }
    std::vector<concurrent::Future<R>> futures_;
    std::optional<std::chrono::steady_clock::time_point> deadline_;
};

/// Something that calls functions elsewhere. All members may be called from any thread.
class Executor {
  public:
    Executor() = default;
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    virtual ~Executor() = default;

    /// Calls `f(args…)`, which are decay-copied. RuntimeError after `shutdown()`.
    template <class F, class... Args>
        requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
    auto submit(F&& f, Args&&... args) {
        using R = detail::CallResult<F, Args...>;
        static_assert(!detail::IS_CORO<std::decay_t<R>>,
                      "a coroutine cannot run in an executor: it belongs to its loop");
        auto call = std::make_shared<detail::ConcurrentCall<R, std::decay_t<F>, std::decay_t<Args>...>>(
            std::forward<F>(f), std::forward<Args>(args)...);
        execute(call);
        return concurrent::Future<R>(std::move(call));
    }
    /// Calls `f(item)` for each item, all of them submitted at once.
    template <detail::Range Items, class F>
    auto map(F f, Items&& items, MapOptions options = {}) {
        using R = detail::CallResult<F, detail::RangeValue<Items>>;
        std::vector<concurrent::Future<R>> futures;
        for (auto&& item : items) futures.push_back(submit(f, std::forward<decltype(item)>(item)));
        return MapResults<R>(std::move(futures), options.timeout);
    }
    /// No more calls are taken. What was submitted is called, unless it is to be cancelled.
    void shutdown(ShutdownOptions options = {}) { end(options); }

    /// In one line, see format.hpp.
    virtual std::string describe() const { return "<Executor>"; }

    /// Queues a call: run() once, in any thread, or cancel() or fail().
    virtual void execute(std::shared_ptr<ExecutorCall> call) = 0;

  private:
    virtual void end(ShutdownOptions options) = 0;
};

struct ThreadPoolOptions {
    std::string_view thread_name_prefix{};  // "pool-N" without; names are cut to 15 characters
    void (*initializer)() = nullptr;        // called first in each thread; if it throws, the pool is broken
};

/// Threads, made as they are needed: an idle one is used before another is made. First come, first served.
class ThreadPoolExecutor final : public Executor {
  public:
    /// Nothing: min(32, CPUs + 4) threads. ValueError for none.
    explicit ThreadPoolExecutor(std::optional<std::size_t> max_workers = {}, ThreadPoolOptions options = {});
    /// An initializer with a state of its own.
    ThreadPoolExecutor(std::optional<std::size_t> max_workers, Function<void()> initializer,
                       std::string_view thread_name_prefix = {});
    /// Waits as `shutdown()` does, unless there was a `shutdown({.wait = false})`: then what was submitted goes on in the
    /// background.
    ~ThreadPoolExecutor() override;

    /// RuntimeError after `shutdown()`, if no thread can be had at all, or in a forked child; BrokenThreadPool.
    void execute(std::shared_ptr<ExecutorCall> call) override;
    std::string describe() const override;

    /// For coil's own layers: false in a forked child, which has none of the threads.
    bool of_this_process() const noexcept;

  private:
    void end(ShutdownOptions options) override;

    std::unique_ptr<detail::WorkerPool> pool_;
    std::atomic<bool> abandoned_{false};
};

namespace detail {

/// The loop's default executor, made on demand. RuntimeError after `shutdown_default_executor()`.
Executor& default_executor(EventLoop& loop);

}  // namespace detail

template <class F, class... Args>
auto EventLoop::run_in_executor(Executor* executor, F&& f, Args&&... args) {
    check_usable();
    Executor& chosen = executor ? *executor : detail::default_executor(*this);
    return detail::chain_to_loop(chosen.submit(std::forward<F>(f), std::forward<Args>(args)...).state(),
                                 *this, detail::Give::MOVE);
}

template <class T>
    requires std::derived_from<T, Executor>
inline constexpr bool detail::DESCRIBED<T> = true;

}  // namespace coil
