#pragma once

// Futures between threads: what an executor or `run_coroutine_threadsafe` gives. To wait for one in a task, `wrap_future` it.
//
// Everything here may be called from any thread.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "coil/combinators.hpp"
#include "coil/detail/box.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/detail/invoke.hpp"
#include "coil/exceptions.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

/// A concurrent future without its value's type.
///
///     PENDING ──set_running_or_notify_cancel──► RUNNING ──set_result, set_exception──► FINISHED
///        ├──────set_result, set_exception─────────────────────────────────────────────► FINISHED
///        └──────cancel──► CANCELLED ──set_running_or_notify_cancel──► CANCELLED, seen by who was to run it
///
/// The value and the error are written before FINISHED, under the mutex, and never again.
class ConcurrentState : public std::enable_shared_from_this<ConcurrentState> {
  public:
    using Callback = Function<void(const std::shared_ptr<ConcurrentState>&)>;

    ConcurrentState();
    ConcurrentState(const ConcurrentState&) = delete;
    ConcurrentState& operator=(const ConcurrentState&) = delete;
    virtual ~ConcurrentState();

    bool cancel();
    bool cancelled() const;
    bool running() const;
    bool done() const;
    bool set_running_or_notify_cancel();
    void set_exception(std::exception_ptr error);
    void add_done_callback(Callback callback);

    /// Blocks until it is done. TimeoutError.
    void wait(std::optional<Duration> timeout) const;
    /// Waits; throws what result() throws instead of a value.
    void check_result(std::optional<Duration> timeout);
    /// Waits; null where there is a value.
    std::exception_ptr exception(std::optional<Duration> timeout);
    std::string describe() const;
    /// It is done and has an error; does not count as seen.
    bool failed() const;
    /// The error of one that is FINISHED; counts as seen.
    std::exception_ptr take_error() noexcept;
    /// The loop that must run for it to be done: its thread must not block on it.
    void computed_by(const EventLoop& loop) noexcept { loop_ = &loop; }

  protected:
    enum class State : std::uint8_t { PENDING, RUNNING, CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED };

    /// Holds the mutex while a result is put into a future that has none: InvalidStateError for one that is done.
    class Ending {
      public:
        explicit Ending(ConcurrentState& state);
        Ending(const Ending&) = delete;
        Ending& operator=(const Ending&) = delete;
        ~Ending();
        /// The result is there: wakes who waits, and calls back without the mutex.
        void finish();

      private:
        ConcurrentState& state_;
        bool locked_ = true;
    };

  private:
    bool is_done() const noexcept { return state_ >= State::CANCELLED; }
    void call_back() noexcept;

    struct Sync;
    const std::unique_ptr<Sync> sync_;  // a mutex and a condition variable, without their headers here
    std::vector<Callback> callbacks_;
    std::exception_ptr error_;
    const EventLoop* loop_ = nullptr;  // compared, never used
    State state_ = State::PENDING;
    bool unseen_error_ = false;
};

template <class T>
class ConcurrentResult : public ConcurrentState {
  public:
    template <class... Args>
    void set_result(Args&&... args) {
        Ending ending(*this);
        box_.emplace(std::forward<Args>(args)...);
        ending.finish();
    }
    /// Of one that is FINISHED with a value.
    Box<T>& box() noexcept { return box_; }

  private:
    [[no_unique_address]] Box<T> box_;
};

}  // namespace coil::detail

namespace coil::concurrent {

/// The future was cancelled, and its result is asked for by a thread. A task that waits gets coil's own CancelledError.
class CancelledError : public std::runtime_error {
  public:
    CancelledError() : std::runtime_error("the concurrent future was cancelled") {}
};

/// A result that another thread computes. A handle: copies share the state. An exception that nobody asks for is logged when the
/// last handle goes.
template <class T>
class [[nodiscard("a dropped Future's exception is only logged")]] Future {
  public:
    using value_type = T;

    /// A pending one, for those who write an executor.
    Future() : state_(std::make_shared<detail::ConcurrentResult<T>>()) {}

    /// False if it runs or has finished: then nothing stops it.
    bool cancel() { return state_->cancel(); }
    bool cancelled() const { return state_->cancelled(); }
    bool running() const { return state_->running(); }
    bool done() const { return state_->done(); }

    /// Blocks until it is done; gives the value or throws its exception. CancelledError (this namespace's), TimeoutError;
    /// RuntimeError in the thread of the loop that is to compute it, which would wait for itself.
    decltype(auto) result(std::optional<Duration> timeout = {}) const& {
        state_->check_result(timeout);
        if constexpr (std::is_reference_v<T>) {
            return state_->box().get();
        } else if constexpr (!std::is_void_v<T>) {
            return static_cast<const T&>(state_->box().get());
        }
    }
    /// Moves the value out.
    T result(std::optional<Duration> timeout = {}) && {
        state_->check_result(timeout);
        return state_->box().take();
    }
    /// Null where there is a value; waits and throws as `result()`.
    std::exception_ptr exception(std::optional<Duration> timeout = {}) const {
        return state_->exception(timeout);
    }

    /// Calls `f(future)` when it is done, in the thread that ends it; at once, here, if it is done. What it throws is logged.
    template <class F>
        requires std::invocable<std::decay_t<F>&, Future<T>>
    void add_done_callback(F&& f) {
        state_->add_done_callback(
            [f = std::forward<F>(f)](const std::shared_ptr<detail::ConcurrentState>& state) mutable {
                detail::invoke(f, Future(std::static_pointer_cast<detail::ConcurrentResult<T>>(state)));
            });
    }

    /// In one line, see format.hpp.
    std::string describe() const { return state_->describe(); }

    // ---- for those who write an executor

    /// Before the work begins. False: it was cancelled, do not begin. RuntimeError if it has begun already.
    bool set_running_or_notify_cancel() { return state_->set_running_or_notify_cancel(); }
    /// InvalidStateError if it is done.
    template <class U = T>
        requires(!std::is_void_v<T> && std::constructible_from<T, U &&>)
    void set_result(U&& value) {
        state_->set_result(std::forward<U>(value));
    }
    void set_result()
        requires std::is_void_v<T>
    {
        state_->set_result();
    }
    void set_exception(std::exception_ptr error) { state_->set_exception(std::move(error)); }
    template <class E>
        requires(!std::convertible_to<E, std::exception_ptr>)
    void set_exception(E error) {
        state_->set_exception(std::make_exception_ptr(std::move(error)));
    }

    friend bool operator==(const Future&, const Future&) = default;

    /// For coil's own layers.
    explicit Future(std::shared_ptr<detail::ConcurrentResult<T>> state) noexcept : state_(std::move(state)) {}
    const std::shared_ptr<detail::ConcurrentResult<T>>& state() const noexcept { return state_; }

  private:
    std::shared_ptr<detail::ConcurrentResult<T>> state_;
};

struct WaitOptions {
    std::optional<Duration> timeout{};
    ReturnWhen return_when = ALL_COMPLETED;
};

template <class T>
struct WaitResult {
    std::vector<Future<T>> done;
    std::vector<Future<T>> not_done;
};

}  // namespace coil::concurrent

namespace coil::detail {

/// Counts futures that are done, in the order of their ends.
class ConcurrentEnds {
  public:
    /// `future`'s number among those that are watched.
    void watch(ConcurrentState& future, std::size_t number);
    /// Blocks until there is another end; its number. Nothing: time is up.
    std::optional<std::size_t> next(std::optional<std::chrono::steady_clock::time_point> deadline);

  private:
    struct Shared;
    std::shared_ptr<Shared> shared_ = make();  // the futures' callbacks have it too
    static std::shared_ptr<Shared> make();
};

std::optional<std::chrono::steady_clock::time_point> real_deadline(std::optional<Duration> timeout);
[[noreturn]] void throw_unfinished(std::size_t unfinished, std::size_t all);

}  // namespace coil::detail

namespace coil::concurrent {

/// Blocks until they are done, or the first one is, or the first one has failed: coil's constants ALL_COMPLETED, FIRST_COMPLETED,
/// FIRST_EXCEPTION. Throws nothing when time is up.
template <class T>
WaitResult<T> wait(const std::vector<Future<T>>& futures, WaitOptions options = {}) {
    auto deadline = detail::real_deadline(options.timeout);
    detail::ConcurrentEnds ends;
    for (std::size_t i = 0; i < futures.size(); ++i) ends.watch(*futures[i].state(), i);
    for (std::size_t left = futures.size(); left > 0; --left) {
        auto ended = ends.next(deadline);
        if (!ended || options.return_when == FIRST_COMPLETED) break;
        if (options.return_when == FIRST_EXCEPTION && futures[*ended].state()->failed()) break;
    }
    WaitResult<T> result;
    for (const Future<T>& future : futures) (future.done() ? result.done : result.not_done).push_back(future);
    return result;
}

/// `for (auto& future : as_completed(futures, 1s))`: each as it is done. The increment throws TimeoutError when time is up.
template <class T>
class AsCompleted {
  public:
    AsCompleted(std::vector<Future<T>> futures, std::optional<Duration> timeout)
        : futures_(std::move(futures)), deadline_(detail::real_deadline(timeout)) {
        for (std::size_t i = 0; i < futures_.size(); ++i) ends_.watch(*futures_[i].state(), i);
    }

    class Iterator {
      public:
        using value_type = Future<T>;
        using difference_type = std::ptrdiff_t;
        Future<T>& operator*() const { return all_->futures_[now_]; }
        Iterator& operator++() {
            all_->advance(*this);
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return all_ == nullptr; }

      private:
        friend AsCompleted;
        AsCompleted* all_ = nullptr;
        std::size_t now_ = 0;
    };
    Iterator begin() {
        Iterator first;
        first.all_ = this;
        advance(first);
        return first;
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    void advance(Iterator& iterator) {
        if (given_ == futures_.size()) {
            iterator.all_ = nullptr;
            return;
        }
        auto ended = ends_.next(deadline_);
        if (!ended) detail::throw_unfinished(futures_.size() - given_, futures_.size());
        ++given_;
        iterator.now_ = *ended;
    }

    std::vector<Future<T>> futures_;
    detail::ConcurrentEnds ends_;
    std::optional<std::chrono::steady_clock::time_point> deadline_;
    std::size_t given_ = 0;
};

template <class T>
AsCompleted<T> as_completed(std::vector<Future<T>> futures, std::optional<Duration> timeout = {}) {
    return AsCompleted<T>(std::move(futures), timeout);
}

}  // namespace coil::concurrent

template <class T>
inline constexpr bool coil::detail::DESCRIBED<coil::concurrent::Future<T>> = true;
