#pragma once

// Coro<T>: what `async def` gives. Lazy, owned by whoever holds it, awaited once. Awaiting a Coro runs it inside the
// awaiting task, at once and without a turn of the loop.

#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

#include "coil/detail/box.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/pool.hpp"
#include "coil/detail/task_base.hpp"
#include "coil/detail/thread_state.hpp"
#include "coil/exceptions.hpp"
#include "coil/fwd.hpp"

// Clang turns every transfer between coroutines into a jump, in every build. GCC 12 does not without optimisation or under a
// sanitizer; there a coroutine returns to the task's step, which resumes the next one: two more branches, a flat stack.
#ifdef __clang__
#define COIL_SYMMETRIC_TRANSFER 1
#else
#define COIL_SYMMETRIC_TRANSFER 0
#endif

namespace coil {

namespace detail {

template <class T>
class CoroPromise;
template <class T>
class CoroAwaiter;
template <class A>
struct AwaitTraits;

#if COIL_SYMMETRIC_TRANSFER
using Transfer = std::coroutine_handle<>;
inline Transfer transfer_to(std::coroutine_handle<> next) noexcept { return next; }
inline Transfer transfer_to_loop() noexcept { return std::noop_coroutine(); }
#else
using Transfer = void;
inline void transfer_to(std::coroutine_handle<> next) noexcept { thread_state.transfer = next.address(); }
inline void transfer_to_loop() noexcept {}
#endif

/// The exception, which is being handled, leaves a coroutine that stands at this line: for tracebacks.
void record_passage(const std::exception_ptr& error, const std::source_location& line) noexcept;

/// What every coroutine of coil has: who awaits it, and the line where it waits itself.
class PromiseBase {
  public:
    static void* operator new(std::size_t size) { return pool_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { pool_deallocate(frame, size); }

    // Runs in the coroutine's own body, so the location names the function.
    std::suspend_always initial_suspend(
        std::source_location where = std::source_location::current()) noexcept {
        where_ = where;
        return {};
    }

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        Transfer await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
            Awaiter* awaiter = ended.promise().awaiter_;
            if (!awaiter) return transfer_to_loop();
            thread_state.task->enter(*awaiter->parent_promise_);
            return transfer_to(awaiter->parent_);
        }
        void await_resume() const noexcept {}
    };
    FinalAwaiter final_suspend() noexcept { return {}; }

    void unhandled_exception() noexcept {
        exception_ = std::current_exception();
        record_passage(exception_, where_);
    }

    template <class A>
    decltype(auto) await_transform(A&& awaitable,
                                   std::source_location where = std::source_location::current()) {
        static_assert(
            requires { typename AwaitTraits<A>::Result; },
            "this cannot be awaited in a coil coroutine; a Coro is awaited as an rvalue, once: "
            "co_await f() or co_await std::move(coro)");
        where_ = where;
        return AwaitTraits<A>::awaiter(std::forward<A>(awaitable));
    }

    Awaiter* awaiter() const noexcept { return awaiter_; }
    void set_awaiter(Awaiter* awaiter) noexcept { awaiter_ = awaiter; }
    /// Where it waits; before its first await: where it is defined.
    const std::source_location& where() const noexcept { return where_; }
    const std::exception_ptr& exception() const noexcept { return exception_; }

  protected:
    template <class>
    friend struct LayoutOf;

    Awaiter* awaiter_ = nullptr;  // in the awaiting frame; null: nobody yet, or the root of a task
    std::source_location where_;
    std::exception_ptr exception_;
};

template <class T>
class CoroPromise final : public PromiseBase {
  public:
    Coro<T> get_return_object() noexcept;
    template <class U = T>
        requires std::constructible_from<T, U&&>
    void return_value(U&& value) {
        result_.emplace(std::forward<U>(value));
    }
    Box<T>& result() noexcept { return result_; }
    T take() {
        if (exception_) std::rethrow_exception(exception_);
        return result_.take();
    }

  private:
    Box<T> result_;
};

template <class T>
class CoroPromise<T&> final : public PromiseBase {
  public:
    Coro<T&> get_return_object() noexcept;
    void return_value(T& value) noexcept { result_.emplace(value); }
    Box<T&>& result() noexcept { return result_; }
    T& take() {
        if (exception_) std::rethrow_exception(exception_);
        return result_.take();
    }

  private:
    Box<T&> result_;
};

template <>
class CoroPromise<void> final : public PromiseBase {
  public:
    inline Coro<void> get_return_object() noexcept;
    void return_void() noexcept {}
    Box<void> result() noexcept { return {}; }
    void take() {
        if (exception_) std::rethrow_exception(exception_);
    }
};

void report_never_awaited(const PromiseBase& promise) noexcept;
std::string describe_coroutine(const PromiseBase* promise);
[[noreturn]] void throw_already_awaited();

/// Marks coil's own plain awaiters that also stand for a Coro: see Operation in detail/operation.hpp.
struct OperationTag {};

}  // namespace detail

/// A coroutine that has not begun. Give it to `co_await`, `create_task`, `gather`, `run`…, as an rvalue.
/// One that is dropped without that never runs; debug mode reports it.
template <class T>
class [[nodiscard("a Coro does nothing until it is awaited: co_await it")]] Coro {
  public:
    using promise_type = detail::CoroPromise<T>;
    using value_type = T;

    Coro(Coro&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Coro& operator=(Coro&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    /// Wraps one of coil's plain awaiters (`sleep`, `Event::wait`…) in a coroutine of its own.
    template <std::derived_from<detail::OperationTag> Op>
        requires std::derived_from<Op, Coro>
    Coro(Op&& operation) : Coro(wrap(std::move(operation))) {}
    ~Coro() {
        if (handle_) {
            detail::report_never_awaited(handle_.promise());
            handle_.destroy();
        }
    }

    /// False once it was awaited or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }
    /// In one line, see format.hpp.
    std::string describe() const {
        return detail::describe_coroutine(handle_ ? &handle_.promise() : nullptr);
    }

    /// For coil's own layers: gives up the frame. RuntimeError if it was awaited before.
    std::coroutine_handle<promise_type> release() {
        if (!handle_) detail::throw_already_awaited();
        return std::exchange(handle_, nullptr);
    }

  protected:
    Coro() noexcept = default;

  private:
    friend promise_type;
    explicit Coro(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}

    template <class Op>
    static Coro wrap(Op operation) {
        co_return co_await std::move(operation);
    }

    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <class T>
Coro<T> CoroPromise<T>::get_return_object() noexcept {
    return Coro<T>(std::coroutine_handle<CoroPromise>::from_promise(*this));
}
template <class T>
Coro<T&> CoroPromise<T&>::get_return_object() noexcept {
    return Coro<T&>(std::coroutine_handle<CoroPromise>::from_promise(*this));
}
inline Coro<void> CoroPromise<void>::get_return_object() noexcept {
    return Coro<void>(std::coroutine_handle<CoroPromise>::from_promise(*this));
}

/// Runs a child coroutine in place of its parent, and owns its frame.
template <class T>
class CoroAwaiter : public Awaiter {
  public:
    explicit CoroAwaiter(Coro<T>&& coro) { child_ = coro.release(); }
    CoroAwaiter(const CoroAwaiter&) = delete;
    CoroAwaiter& operator=(const CoroAwaiter&) = delete;
    ~CoroAwaiter() {
        if (child_) child_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    Transfer await_suspend(std::coroutine_handle<Promise> parent) noexcept {
        parent_ = parent;
        parent_promise_ = &parent.promise();
        promise().set_awaiter(this);
        thread_state.task->enter(promise());
        return transfer_to(child_);
    }
    T await_resume() { return promise().take(); }
    /// The result without a throw.
    Outcome<std::remove_cvref_t<T>> take_outcome() {
        using Result = Outcome<std::remove_cvref_t<T>>;
        if (promise().exception()) return Result(promise().exception());
        if constexpr (std::is_void_v<T>) {
            return Result(std::in_place);
        } else {
            return Result(std::in_place, promise().result().take());
        }
    }

  private:
    CoroPromise<T>& promise() const noexcept {
        return std::coroutine_handle<CoroPromise<T>>::from_address(child_.address()).promise();
    }
};

template <class A>
struct AwaitTraits {};

template <class T>
struct AwaitTraits<Coro<T>> {
    using Result = T;
    static CoroAwaiter<T> awaiter(Coro<T>&& coro) { return CoroAwaiter<T>(std::move(coro)); }
};

/// Refers to an awaiter. GCC 12 copies an awaiter that await_transform gives by reference; of this one that is harmless.
template <class Op>
struct AwaiterRef {
    Op* operation;
    bool await_ready() { return operation->await_ready(); }
    template <class Promise>
    decltype(auto) await_suspend(std::coroutine_handle<Promise> at) {
        return operation->await_suspend(at);
    }
    decltype(auto) await_resume() { return operation->await_resume(); }
};

/// A plain awaiter of coil's, awaited where it stands: its node lives in the awaiting frame.
template <class Op>
    requires(std::derived_from<Op, OperationTag> && !std::is_reference_v<Op>)
struct AwaitTraits<Op> {
    using Result = decltype(std::declval<Op&>().await_resume());
    static AwaiterRef<Op> awaiter(Op&& operation) noexcept { return {&operation}; }
};

template <class A>
concept Awaitable = requires { typename AwaitTraits<A>::Result; };

/// What `co_await a` gives, for an `a` of type A (an lvalue reference type for an lvalue).
template <Awaitable A>
using AwaitResult = typename AwaitTraits<A>::Result;

std::string describe_outcome(const std::exception_ptr& error);

}  // namespace detail

/// How something ended: with a value, an error or a cancellation. What `try_await` and `gather(return_exceptions, …)` give.
/// Reads like a finished Future, or like std::expected.
template <class T>
class Outcome {
  public:
    using Value = detail::ValueOf<T>;

    explicit Outcome(std::exception_ptr error) noexcept : error_(std::move(error)) {}
    template <class... Args>
        requires std::constructible_from<Value, Args...>
    explicit Outcome(std::in_place_t, Args&&... args) : value_(std::in_place, std::forward<Args>(args)...) {}

    bool has_value() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }
    /// True if it ended by CancelledError.
    bool cancelled() const noexcept { return detail::is_cancelled_error(exception()); }

    /// The value; throws the error if there is none.
    const Value& value() const& {
        check();
        return *value_;
    }
    Value& value() & {
        check();
        return *value_;
    }
    Value&& value() && {
        check();
        return *std::move(value_);
    }
    const Value& result() const& { return value(); }
    Value&& result() && { return std::move(*this).value(); }
    const Value& operator*() const& { return value(); }
    Value& operator*() & { return value(); }
    Value&& operator*() && { return std::move(*this).value(); }
    const Value* operator->() const { return &value(); }
    Value* operator->() { return &value(); }

    /// The error or the CancelledError; null where there is a value.
    std::exception_ptr exception() const noexcept { return error_; }
    std::exception_ptr error() const noexcept { return exception(); }
    /// In one line, see format.hpp.
    std::string describe() const { return detail::describe_outcome(exception()); }

  private:
    void check() const {
        if (!value_) std::rethrow_exception(error_);
    }
    std::optional<Value> value_;  // empty: there is an error
    std::exception_ptr error_;
};

namespace detail {

template <class Inner, class T>
class [[nodiscard("co_await it")]] TryAwaiter : public OperationTag {
  public:
    using AwaiterType = decltype(AwaitTraits<Inner>::awaiter(std::declval<Inner>()));

    explicit TryAwaiter(Inner&& awaitable)
        : inner_(AwaitTraits<Inner>::awaiter(std::forward<Inner>(awaitable))) {}

    bool await_ready() { return inner_.await_ready(); }
    template <class Promise>
    decltype(auto) await_suspend(std::coroutine_handle<Promise> parent) {
        return inner_.await_suspend(parent);
    }
    Outcome<T> await_resume() {
        if constexpr (requires { inner_.take_outcome(); }) {
            return inner_.take_outcome();
        } else {
            try {
                if constexpr (std::is_void_v<T>) {
                    inner_.await_resume();
                    return Outcome<T>(std::in_place);
                } else {
                    return Outcome<T>(std::in_place, inner_.await_resume());
                }
            } catch (...) {
                return Outcome<T>(std::current_exception());
            }
        }
    }

  private:
    AwaiterType inner_;
};

}  // namespace detail

/// Awaits and gives the outcome instead of throwing, cancellation included:
/// `auto outcome = co_await try_await(f());`. Await it where it stands.
template <class A>
    requires detail::Awaitable<A>
[[nodiscard("co_await it")]] auto try_await(A&& awaitable) {
    return detail::TryAwaiter<A, std::remove_cvref_t<detail::AwaitResult<A>>>(std::forward<A>(awaitable));
}

namespace detail {

/// The Coro of a body that is given as a Coro or as a function that makes one.
template <class Body>
decltype(auto) begin_body(Body& body) {
    if constexpr (std::invocable<Body&>) {
        return body();
    } else {
        return std::move(body);
    }
}
template <class Body>
using BodyResult = AwaitResult<std::remove_reference_t<decltype(begin_body(std::declval<Body&>()))>>;

}  // namespace detail

/// Awaits the body (a function giving a Coro, or a Coro), then the cleanup (a function giving a Coro<>), whether the body
/// returned, threw or was cancelled; then gives the body's outcome. An exception of the cleanup replaces it.
template <class Body, class Cleanup>
Coro<detail::BodyResult<std::remove_cvref_t<Body>>> finally(Body body, Cleanup cleanup) {
    using R = detail::BodyResult<Body>;
    auto outcome = co_await try_await(detail::begin_body(body));
    co_await cleanup();
    if constexpr (std::is_void_v<R>) {
        outcome.value();
    } else {
        co_return std::move(outcome).value();
    }
}

template <class T>
inline constexpr bool detail::DESCRIBED<Coro<T>> = true;

template <class T>
inline constexpr bool detail::DESCRIBED<Outcome<T>> = true;

}  // namespace coil
