#pragma once

// Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: for the tasks of one loop, fair in order of arrival. Not
// thread-safe; each must outlive its waiters, but for a Barrier. Nothing is allocated once warm, waiting or not.

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "coil/detail/described.hpp"
#include "coil/detail/operation.hpp"
#include "coil/detail/wait_queue.hpp"

namespace coil {

namespace detail {
void report_failed_release(std::exception_ptr error);
}

/// What `scoped()` gives: releases when it goes out of scope, or earlier by `release()`.
template <class Primitive>
class [[nodiscard("the scope of this object is the time of holding")]] Held {
  public:
    explicit Held(Primitive& primitive) noexcept : primitive_(&primitive) {}
    Held(Held&& other) noexcept : primitive_(std::exchange(other.primitive_, nullptr)) {}
    Held& operator=(Held&& other) noexcept {
        std::swap(primitive_, other.primitive_);
        return *this;
    }
    /// A release that fails, because somebody else has released already, goes to the loop's exception handler.
    ~Held() {
        if (!primitive_) return;
        try {
            primitive_->release();
        } catch (...) {
            detail::report_failed_release(std::current_exception());
        }
    }
    void release() {
        if (primitive_) std::exchange(primitive_, nullptr)->release();
    }

  private:
    Primitive* primitive_;
};

namespace detail {

/// The wait for a primitive; RESULT is bool (`acquire`), void (`aenter`) or Held (`scoped`).
template <class Primitive, class Result>
class [[nodiscard("co_await it")]] Acquire final : public Operation<Result> {
  public:
    explicit Acquire(Primitive& primitive) noexcept : waiter_(primitive) {}
    Acquire(Acquire&& other) noexcept : waiter_(other.waiter_.primitive()) {}

    bool await_ready() { return waiter_.try_acquire(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        waiter_.begin(at);
    }
    Result await_resume() {
        waiter_.finish();
        if constexpr (std::is_same_v<Result, bool>) {
            return true;
        } else if constexpr (!std::is_void_v<Result>) {
            return Result(waiter_.primitive());
        }
    }

  private:
    class Waiter final : public WaitNode {
      public:
        explicit Waiter(Primitive& primitive) noexcept : WaitNode(Primitive::WAIT), primitive_(&primitive) {}
        Primitive& primitive() const noexcept { return *primitive_; }
        bool try_acquire() { return primitive_->try_acquire(); }
        template <class Promise>
        void begin(std::coroutine_handle<Promise> at) {
            primitive_->bind(Primitive::NAME);
            LeafWaiter::suspend(at);
            primitive_->waiters_.push(*this);
        }
        void finish() {
            if (!suspended()) return;
            bool exists = leave_queue();
            bool cancelled = cancellation_due();
            if (exists) primitive_->resumed(woken(), cancelled);
            if (cancelled) throw_cancelled();
            if (!exists && !Primitive::MAY_GO_AFTER_WAKING) throw_destroyed();
        }
        std::string describe() const override {
            std::string text = WaitNode::describe();
            if constexpr (requires { primitive_->describe_holder(task()); }) {
                if (linked()) text += primitive_->describe_holder(task());
            }
            return text;
        }

      private:
        template <class>
        friend struct LayoutOf;

        Primitive* primitive_;
    };
    template <class>
    friend struct LayoutOf;

    Waiter waiter_;
};

}  // namespace detail

/// Mutual exclusion between tasks. It has no owner: any task may release it.
class Lock : detail::LoopBound {
  public:
    Lock() = default;
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

    /// Gives true. Does not suspend if the lock is free and nobody waits for it.
    auto acquire() noexcept { return detail::Acquire<Lock, bool>(*this); }
    /// `auto held = co_await lock.scoped();`
    auto scoped() noexcept { return detail::Acquire<Lock, Held<Lock>>(*this); }
    /// Wakes the first waiter, which takes the lock when it runs. RuntimeError if the lock is free.
    void release() {
        if (!locked_) throw_not_acquired();
        locked_ = false;
        holder_ = nullptr;
        wake_first();
    }
    /// In one line, see format.hpp.
    std::string describe() const;
    /// False also while the lock is promised to a waiter.
    bool locked() const noexcept { return locked_; }

    auto aenter() noexcept { return detail::Acquire<Lock, void>(*this); }
    void exit(const std::exception_ptr&) { release(); }

  private:
    template <class, class>
    friend class detail::Acquire;
    template <class>
    friend struct detail::LayoutOf;

    static constexpr const char* NAME = "Lock";
    static constexpr bool MAY_GO_AFTER_WAKING = false;
    static constexpr const char* WAIT = "Lock.acquire";
    bool try_acquire() noexcept {
        if (locked_ || !waiters_.idle()) return false;
        take();
        return true;
    }
    void resumed(bool granted, bool cancelled) noexcept {
        if (granted && !cancelled) {
            take();
        } else if (!locked_) {
            wake_first();  // the promise of the lock, if this task had it, goes to the next
        }
    }
    void take() noexcept {
        locked_ = true;
        holder_ = detail::thread_state.task;
    }
    /// ", held by Task 'x'", for a task that waits.
    std::string describe_holder(const detail::TaskBase& waiting) const;
    /// It is the first in line that must be awake, whoever was woken before.
    void wake_first() noexcept {
        if (detail::WaitNode* first = waiters_.front(); first && first->pending()) first->wake();
    }
    [[noreturn]] static void throw_not_acquired();

    detail::WaitQueue waiters_;
    const detail::TaskBase* holder_ = nullptr;  // who took it last, for messages: it may be gone
    bool locked_ = false;
};

/// A flag that tasks wait for.
class Event : detail::LoopBound {
  public:
    Event() = default;
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    /// Wakes all who wait now; they go on even if `clear()` follows before they run.
    void set() noexcept;
    /// In one line, see format.hpp.
    std::string describe() const;
    void clear() noexcept { set_ = false; }
    bool is_set() const noexcept { return set_; }
    /// Gives true once the event is set; at once if it is.
    auto wait() noexcept { return detail::Acquire<Event, bool>(*this); }

  private:
    template <class, class>
    friend class detail::Acquire;
    static constexpr const char* NAME = "Event";
    static constexpr bool MAY_GO_AFTER_WAKING = true;
    static constexpr const char* WAIT = "Event.wait";
    bool try_acquire() const noexcept { return set_; }
    void resumed(bool, bool) noexcept {}

    detail::WaitQueue waiters_;
    bool set_ = false;
};

/// A lock, and tasks that gave it back until something changes.
class Condition : detail::LoopBound {
  public:
    Condition() noexcept : lock_(&own_) {}
    /// Shares a lock, which must outlive the condition.
    explicit Condition(Lock& lock) noexcept : lock_(&lock) {}
    Condition(const Condition&) = delete;
    Condition& operator=(const Condition&) = delete;

    /// The lock's.
    auto acquire() noexcept { return lock_->acquire(); }
    auto scoped() noexcept { return lock_->scoped(); }
    void release() { lock_->release(); }
    /// In one line, see format.hpp.
    std::string describe() const;
    bool locked() const noexcept { return lock_->locked(); }

    /// Releases the lock, waits to be notified, takes the lock again, gives true. May return without a notification: look again
    /// at what was waited for, or use `wait_for`. Cancelled, it takes the lock again before it throws. RuntimeError if the lock
    /// is free.
    Coro<bool> wait();
    /// Waits until the predicate holds, which is called with the lock held. Gives its value.
    template <std::invocable Predicate>
    Coro<std::decay_t<std::invoke_result_t<Predicate&>>> wait_for(Predicate predicate) {
        for (;;) {
            auto value = predicate();
            if (value) co_return value;
            co_await wait();
        }
    }
    /// Wakes the first `n` who wait; they go on as the lock becomes free. RuntimeError if the lock is free.
    void notify(std::size_t n = 1);
    void notify_all() { notify(static_cast<std::size_t>(-1)); }

    auto aenter() noexcept { return lock_->aenter(); }
    void exit(const std::exception_ptr&) { release(); }

  private:
    class Notification;
    void wake(std::size_t n) noexcept;

    detail::WaitQueue waiters_;
    Lock* lock_;
    Lock own_;  // unused if another one is shared
};

/// A number of permits.
class Semaphore : detail::LoopBound {
  public:
    /// ValueError below zero.
    explicit Semaphore(std::ptrdiff_t value = 1);
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;

    /// Gives true. Does not suspend if there is a permit and nobody waits.
    auto acquire() noexcept { return detail::Acquire<Semaphore, bool>(*this); }
    /// `auto permit = co_await semaphore.scoped();`
    auto scoped() noexcept { return detail::Acquire<Semaphore, Held<Semaphore>>(*this); }
    /// Adds a permit, given at once to the first waiter. There is no upper bound.
    void release() {
        check_release();
        ++value_;
        wake_next();
    }
    /// In one line, see format.hpp.
    std::string describe() const;
    /// True if an `acquire()` would wait.
    bool locked() const noexcept { return value_ == 0 || !waiters_.idle(); }

    auto aenter() noexcept { return detail::Acquire<Semaphore, void>(*this); }
    void exit(const std::exception_ptr&) { release(); }

  protected:
    Semaphore(std::ptrdiff_t value, std::ptrdiff_t bound);

  private:
    template <class, class>
    friend class detail::Acquire;
    static constexpr const char* NAME = "Semaphore";
    static constexpr bool MAY_GO_AFTER_WAKING = false;
    static constexpr const char* WAIT = "Semaphore.acquire";
    bool try_acquire() noexcept;
    void resumed(bool granted, bool cancelled) noexcept;
    bool wake_next() noexcept;
    void check_release() const;

    detail::WaitQueue waiters_;
    std::ptrdiff_t value_;
    std::ptrdiff_t bound_;  // of a bounded one; otherwise negative
};

/// A semaphore that refuses more releases than acquisitions: ValueError.
class BoundedSemaphore : public Semaphore {
  public:
    explicit BoundedSemaphore(std::ptrdiff_t value = 1) : Semaphore(value, value) {}
};

/// A point that tasks pass together, `parties` at a time, again and again. Waiters keep its state: it may go before them.
class Barrier {
  public:
    /// ValueError below one.
    explicit Barrier(std::ptrdiff_t parties);
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;

    /// Waits until all parties wait, and gives each its place in order of arrival, from 0; the last to come goes on at once. As in
    /// asyncio, two may get the same place after a waiter was cancelled. Who comes while others still leave waits for the next round. A cancelled waiter leaves; the others stay.
    /// BrokenBarrierError if the barrier is broken or reset.
    Coro<std::size_t> wait();
    /// Waiters get BrokenBarrierError; the barrier is empty then, and whole if it was broken.
    Coro<> reset();
    /// Waiters get BrokenBarrierError, and all who come later too, until a reset.
    Coro<> abort();
    /// In one line, see format.hpp.
    std::string describe() const;
    std::size_t parties() const noexcept;
    /// How many wait for the others; 0 while they leave.
    std::size_t n_waiting() const noexcept;
    bool broken() const noexcept;

    Coro<std::size_t> aenter() { return wait(); }
    void exit(const std::exception_ptr&) noexcept {}

  private:
    class State;
    std::shared_ptr<State> state_;
};

template <>
inline constexpr bool detail::DESCRIBED<Lock> = true;
template <>
inline constexpr bool detail::DESCRIBED<Event> = true;
template <>
inline constexpr bool detail::DESCRIBED<Condition> = true;
template <>
inline constexpr bool detail::DESCRIBED<Semaphore> = true;
template <>
inline constexpr bool detail::DESCRIBED<BoundedSemaphore> = true;
template <>
inline constexpr bool detail::DESCRIBED<Barrier> = true;

}  // namespace coil
