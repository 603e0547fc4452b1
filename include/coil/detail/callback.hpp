#pragma once

// The queue entry behind a Handle: a callable with its arguments, the context it runs in, and its owners' count.

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coil/contextvars.hpp"
#include "coil/detail/ref.hpp"
#include "coil/detail/runnable.hpp"
#include "coil/detail/timer_heap.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

class CallbackBase : public Runnable, public Pooled {
  public:
    CallbackBase(const CallbackBase&) = delete;
    CallbackBase& operator=(const CallbackBase&) = delete;

    // Only a handle from call_soon_threadsafe is shared between threads and pays for atomic counting.
    void retain() noexcept {
        if (shared_) {
            owners_.fetch_add(1, std::memory_order_relaxed);
        } else {
            owners_.store(owners_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        }
    }
    void release() noexcept {
        if (shared_) {
            // ORDER: the last owner destroys the callable, so it must see what the other owners did before.
            if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
            return;
        }
        unsigned owners = owners_.load(std::memory_order_relaxed) - 1;
        owners_.store(owners, std::memory_order_relaxed);
        if (owners == 0) delete this;
    }

    void cancel() noexcept;
    bool cancelled() const noexcept { return cancelled_.load(std::memory_order_relaxed); }

    EventLoop& loop() const noexcept { return *loop_; }
    ContextSlot& context() noexcept { return context_; }
    void share_context(Ref<ContextState> state) noexcept { given_context_ = std::move(state); }
    Context get_context() const;
    void mark_shared() noexcept { shared_ = true; }
    Timer* timer() noexcept { return has_timer_ ? &timer_.value : nullptr; }
    virtual const std::type_info& callable_type() const noexcept = 0;

    /// Queue function: runs the callable unless cancelled; what it throws goes to the exception handler.
    static void run(Runnable& self, How how);

  protected:
    CallbackBase(EventLoop& loop, bool with_timer) noexcept
        : Runnable(&CallbackBase::run), loop_(&loop), has_timer_(with_timer) {
        context_.map = current_context().map;
        if (with_timer) new (&timer_.value) Timer(*this);
    }
    virtual ~CallbackBase() = default;

    virtual void call() = 0;
    virtual void drop() noexcept = 0;  // destroys the callable and its arguments; called at most once

    bool live_ = true;     // the callable exists
    bool repeats_ = false;  // a reader's or a signal's callback: not dropped after a run

  public:
    bool queued_ = false;  // of repeating ones: in the ready queue now

  private:
    union MaybeTimer {
        MaybeTimer() noexcept {}
        char none;
        Timer value;  // trivially destructible
    };

    EventLoop* loop_;
    std::atomic<unsigned> owners_{0};
    std::atomic<bool> cancelled_{false};
    bool shared_ = false;
    bool has_timer_;
    ContextSlot context_;
    Ref<ContextState> given_context_;  // instead of context_, where the caller named one
    MaybeTimer timer_;
};

template <class F, class... Args>
class Callback final : public CallbackBase {
  public:
    template <class G, class... As>
    Callback(EventLoop& loop, bool with_timer, bool repeats, G&& f, As&&... args)
        : CallbackBase(loop, with_timer), target_{{std::forward<G>(f), std::forward<As>(args)...}} {
        repeats_ = repeats;
    }
    ~Callback() override {
        if (live_) target_.value.~tuple();
    }
    const std::type_info& callable_type() const noexcept override { return typeid(F); }

  private:
    using Target = std::tuple<F, Args...>;
    union Storage {
        Target value;
        ~Storage() {}
    };

    void call() override {
        if (repeats_) {
            if constexpr (std::is_invocable_v<F&, Args&...>)
                std::apply([](F& f, Args&... args) { std::invoke(f, args...); }, target_.value);
        } else {
            if constexpr (std::is_invocable_v<F, Args...>)
                std::apply([](F& f, Args&... args) { std::invoke(std::move(f), std::move(args)...); },
                           target_.value);
        }
    }
    void drop() noexcept override { target_.value.~tuple(); }

    Storage target_;
};

template <class F, class... Args>
concept OnceCallable = std::invocable<std::decay_t<F>, std::decay_t<Args>...>;
template <class F, class... Args>
concept RepeatCallable = std::invocable<std::decay_t<F>&, std::decay_t<Args>&...>;

template <class F, class... Args>
Ref<CallbackBase> make_callback(EventLoop& loop, bool with_timer, bool repeats, F&& f, Args&&... args) {
    return Ref<CallbackBase>(new Callback<std::decay_t<F>, std::decay_t<Args>...>(
        loop, with_timer, repeats, std::forward<F>(f), std::forward<Args>(args)...));
}

}  // namespace coil::detail
