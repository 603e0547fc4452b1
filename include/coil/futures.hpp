#pragma once

// Future<T>: a result that is not there yet. A handle: copies share the state. Not thread-safe: it belongs to its loop.

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/future_base.hpp"
#include "coil/detail/invoke.hpp"
#include "coil/detail/task_base.hpp"
#include "coil/events.hpp"

namespace coil {

/// What `add_done_callback` registered: take it back with `remove_done_callback`, or register it again.
class DoneCallback {
  public:
    DoneCallback() noexcept = default;
    explicit DoneCallback(detail::Ref<detail::DoneCallable> callable) noexcept
        : callable_(std::move(callable)) {}
    const detail::Ref<detail::DoneCallable>& callable() const noexcept { return callable_; }

  private:
    detail::Ref<detail::DoneCallable> callable_;
};

namespace detail {

template <class T>
class FutureState : public FutureBase {
  public:
    using FutureBase::FutureBase;
    template <class... Args>
    void set_result(Args&&... args) {
        check_settable("set_result");
        box_.emplace(std::forward<Args>(args)...);
        set_finished();
    }
    void* value() noexcept override {
        if constexpr (std::is_void_v<T>) {
            return nullptr;
        } else {
            return const_cast<void*>(static_cast<const void*>(&box_.get()));
        }
    }
    bool has_value_type() const noexcept override { return !std::is_void_v<T>; }

  private:
    [[no_unique_address]] Box<T> box_;
};

template <class Handle, class F>
class TypedDoneCallable final : public DoneCallable {
  public:
    template <class G>
    explicit TypedDoneCallable(G&& f) : f_(std::forward<G>(f)) {}
    void call(FutureBase& future) override { detail::invoke(f_, Handle(Ref<FutureBase>(&future))); }
    void (*function() const noexcept)() override {
        if constexpr (std::is_pointer_v<F>) {
            return reinterpret_cast<void (*)()>(f_);
        } else {
            return nullptr;
        }
    }
    const std::type_info& type() const noexcept override { return typeid(F); }

  private:
    F f_;
};

[[noreturn]] void throw_empty_handle();

template <class T, bool MOVE>
class FutureAwaiter;

}  // namespace detail

template <class T>
class [[nodiscard("a dropped Future cannot be awaited")]] Future {
  public:
    using value_type = T;

    /// Refers to no state; assign one before use.
    Future() noexcept = default;
    /// The view without a type of any future.
    template <class U>
        requires(std::is_void_v<T> && !std::is_void_v<U>)
    Future(const Future<U>& other) noexcept : state_(other.handle()) {}

    /// In one line, see format.hpp.
    std::string describe() const { return detail::describe_future(state_.get(), "Future"); }
    bool done() const { return state().done(); }
    bool cancelled() const { return state().cancelled(); }

    /// The value; the exception if it ended with one; CancelledError; InvalidStateError while it is pending.
    decltype(auto) result() const {
        state().check_result();
        if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*static_cast<std::remove_reference_t<T>*>(state_->value()));
        } else if constexpr (!std::is_void_v<T>) {
            return static_cast<const T&>(*static_cast<const T*>(state_->value()));
        }
    }
    /// Null where there is a value; throws CancelledError or InvalidStateError as `result()`.
    std::exception_ptr exception() const { return state().exception(); }

    /// Ends the future with this value; its callbacks are queued. InvalidStateError unless it is pending.
    template <class U = T>
        requires(!std::is_void_v<T> && std::constructible_from<T, U &&>)
    void set_result(U&& value) {
        typed().set_result(std::forward<U>(value));
    }
    void set_result()
        requires std::is_void_v<T>
    {
        detail::FutureBase& future = state();
        future.check_settable("set_result");
        if (future.has_value_type())
            throw InvalidStateError(
                "this Future<> is a view of a future with a value: set_result needs the typed one");
        future.set_finished();
    }
    void set_exception(std::exception_ptr error) { state().set_exception(std::move(error)); }
    template <class E>
        requires(!std::convertible_to<E, std::exception_ptr>)
    void set_exception(E error) {
        state().set_exception(std::make_exception_ptr(std::move(error)));
    }
    /// Ends a pending future with CancelledError; false if it is done.
    bool cancel(std::string_view message = {}) { return state().cancel(message); }

    /// Calls `f(future)` through `call_soon` when it is done, in order of registration. Dropping what is returned does not
    /// take the callback back.
    template <class F>
        requires std::invocable<std::decay_t<F>&, Future<T>>
    DoneCallback add_done_callback(F&& f) {
        return add_callback<Future<T>>(std::forward<F>(f), {});
    }
    template <class F>
        requires std::invocable<std::decay_t<F>&, Future<T>>
    DoneCallback add_done_callback(detail::InContext context, F&& f) {
        return add_callback<Future<T>>(std::forward<F>(f), std::move(context.state));
    }
    DoneCallback add_done_callback(const DoneCallback& callback) {
        state().add_done_callback(callback.callable(), {});
        return callback;
    }
    /// Takes back all registrations of the callback that are not queued yet; says how many.
    std::size_t remove_done_callback(const DoneCallback& callback) {
        if (!callback.callable()) return 0;
        return state().remove_done_callback(*callback.callable());
    }
    std::size_t remove_done_callback(void (*function)(Future<T>)) {
        return remove_done_callback(callable<Future<T>>(function));
    }

    EventLoop& get_loop() const { return state().get_loop(); }

    explicit operator bool() const noexcept { return static_cast<bool>(state_); }
    template <class U>
    friend bool operator==(const Future& a, const Future<U>& b) noexcept {
        return a.handle().get() == b.handle().get();
    }

    /// For coil's own layers.
    explicit Future(detail::Ref<detail::FutureBase> state) noexcept : state_(std::move(state)) {}
    const detail::Ref<detail::FutureBase>& handle() const noexcept { return state_; }
    detail::FutureBase& state() const {
        if (!state_) detail::throw_empty_handle();
        return *state_;
    }

  protected:
    template <class H, class F>
    static DoneCallback callable(F&& f) {
        return DoneCallback(detail::Ref<detail::DoneCallable>(
            new detail::TypedDoneCallable<H, std::decay_t<F>>(std::forward<F>(f))));
    }
    template <class H, class F>
    DoneCallback add_callback(F&& f, detail::Ref<detail::ContextState> context) {
        DoneCallback callback = callable<H>(std::forward<F>(f));
        state().add_done_callback(callback.callable(), std::move(context));
        return callback;
    }

    detail::Ref<detail::FutureBase> state_;

  private:
    detail::FutureState<T>& typed() const {
        detail::FutureBase& future = state();
        future.check_settable("set_result");  // a task's state is no FutureState: it throws here
        return static_cast<detail::FutureState<T>&>(future);
    }
};

template <class T>
Future<T> EventLoop::create_future(std::source_location where) {
    detail::Ref<detail::FutureBase> future(new detail::FutureState<T>(*this));
    if (core_.debug) [[unlikely]]
        future->keep_creation_place(where);
    return Future<T>(std::move(future));
}

namespace detail {

template <class A>
concept FutureLike = requires(const std::remove_cvref_t<A>& a) { []<class T>(const Future<T>&) {}(a); };

/// The wait for a future's end. Its node is the entry in the future's list.
class FutureWaiter : public Waiter {
  public:
    explicit FutureWaiter(Ref<FutureBase> future) : future_(std::move(future)), node_(*this) {
        if (!future_) throw_empty_handle();
    }
    FutureWaiter(const FutureWaiter&) = delete;
    FutureWaiter& operator=(const FutureWaiter&) = delete;

    bool await_ready() const noexcept { return future_->done(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> at) {
        return suspend(at, at.promise());
    }

    bool cancel_wait(std::string_view message) final { return future_->cancel(message); }
    std::string describe() const final { return future_->label(); }
    void awaited(std::vector<FutureBase*>& futures) const final { futures.push_back(future_.get()); }
    FutureBase& future() const noexcept { return *future_; }

  protected:
    ~FutureWaiter() {
        if (node_.task && !future_->done()) future_->remove_waiter(node_);
    }

    /// Throws if the wait ended without a value.
    void check() {
        if (misuse_ || (node_.task && node_.task->take_cancellation())) throw_instead();
        future_->check_result();
    }
    /// The same without a throw.
    std::exception_ptr check_quietly();

    struct Node final : DoneNode {
        explicit Node(FutureWaiter& waiter) noexcept : DoneNode(&Node::run), waiter(&waiter) {}
        static void run(Runnable& self, How how);
        FutureWaiter* waiter;
        TaskBase* task = nullptr;
    };

    Ref<FutureBase> future_;

  private:
    bool suspend(std::coroutine_handle<> at, PromiseBase& promise);
    /// Misuse, or a cancellation that came with the end of the future: throws unless that is a cancellation itself.
    void throw_instead();

    Node node_;
    std::exception_ptr misuse_;  // awaited itself, or another loop's future: thrown by await_resume
};

/// Whether a T can be copied. std::copy_constructible believes what containers say of themselves, whatever they contain.
template <class T>
inline constexpr bool COPYABLE = std::copy_constructible<T>;
template <class T>
    requires requires { typename T::value_type; } && (!std::same_as<typename T::value_type, T>)
inline constexpr bool COPYABLE<T> = std::copy_constructible<T> && COPYABLE<typename T::value_type>;
template <class A, class B>
inline constexpr bool COPYABLE<std::pair<A, B>> = COPYABLE<A> && COPYABLE<B>;
template <class... As>
inline constexpr bool COPYABLE<std::tuple<As...>> = (COPYABLE<As> && ...);

template <class T, bool MOVE>
class FutureAwaiter final : public FutureWaiter {
  public:
    using FutureWaiter::FutureWaiter;

    T await_resume() {
        check();
        return take();
    }
    Outcome<std::remove_cvref_t<T>> take_outcome() {
        using Result = Outcome<std::remove_cvref_t<T>>;
        if (std::exception_ptr error = check_quietly()) return Result(std::move(error));
        if constexpr (std::is_void_v<T>) {
            return Result(std::in_place);
        } else {
            return Result(std::in_place, take());
        }
    }

  private:
    T take() {
        if constexpr (std::is_reference_v<T>) {
            return *static_cast<std::remove_reference_t<T>*>(future_->value());
        } else if constexpr (!std::is_void_v<T>) {
            static_assert(MOVE || COPYABLE<T>,
                          "the result cannot be copied: co_await std::move(future) moves it out");
            if constexpr (MOVE) {
                return std::move(*static_cast<T*>(future_->value()));
            } else {
                return *static_cast<const T*>(future_->value());
            }
        }
    }
};

template <class T, bool MOVE>
struct FutureAwaitTraits {
    using Result = T;
    static FutureAwaiter<T, MOVE> awaiter(const Future<T>& future) {
        return FutureAwaiter<T, MOVE>(future.handle());
    }
    static FutureAwaiter<T, MOVE> awaiter(Future<T>&& future) {
        return FutureAwaiter<T, MOVE>(future.handle());
    }
};
template <class T>
struct AwaitTraits<Future<T>> : FutureAwaitTraits<T, true> {};
template <class T>
struct AwaitTraits<Future<T>&> : FutureAwaitTraits<T, false> {};
template <class T>
struct AwaitTraits<const Future<T>&> : FutureAwaitTraits<T, false> {};
template <class T>
struct AwaitTraits<const Future<T>> : FutureAwaitTraits<T, false> {};
template <class T>
struct AwaitTraits<Task<T>> : FutureAwaitTraits<T, true> {};
template <class T>
struct AwaitTraits<Task<T>&> : FutureAwaitTraits<T, false> {};
template <class T>
struct AwaitTraits<const Task<T>&> : FutureAwaitTraits<T, false> {};
template <class T>
struct AwaitTraits<const Task<T>> : FutureAwaitTraits<T, false> {};

}  // namespace detail

template <class T>
inline constexpr bool detail::DESCRIBED<Future<T>> = true;

}  // namespace coil
