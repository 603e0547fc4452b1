#pragma once

// The queue entry behind a Handle: a callable with its arguments, the context it runs in, and its owners' count.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coil/contextvars.hpp"
#include "coil/detail/creation_place.hpp"
#include "coil/detail/invoke.hpp"
#include "coil/detail/ref.hpp"
#include "coil/detail/runnable.hpp"
#include "coil/detail/timer_heap.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

class CallbackBase : public Timer, public Pooled {
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
    ContextSlot& context() noexcept { return context_given_ ? *given_->slot : own_; }
    /// Before it is queued: run in this context instead of a copy of the current one.
    void share_context(Ref<ContextState> state) noexcept {
        own_.~ContextSlot();
        new (&given_) Ref<ContextState>(std::move(state));
        context_given_ = true;
    }
    Context get_context() const;
    void mark_shared() noexcept { shared_ = true; }
    /// Debug mode, before it is queued.
    void keep_creation_place() noexcept { place_kept_ = detail::keep_creation_place(this); }
    virtual const std::type_info& callable_type() const noexcept = 0;
    /// "<Handle main::{lambda()#1} cancelled, created after x.cpp:12>"
    std::string describe(std::string_view kind) const;

    /// Queue function: runs the callable unless cancelled; what it throws goes to the exception handler.
    static void run(Runnable& self, How how);

  protected:
    CallbackBase(EventLoop& loop, bool repeats) noexcept
        : Timer(&CallbackBase::run), repeats_(repeats), loop_(&loop), own_(current_context()) {}
    virtual ~CallbackBase() {
        if (place_kept_) [[unlikely]]
            forget_creation_place(this);
        if (context_given_) {
            given_.~Ref();
        } else {
            own_.~ContextSlot();
        }
    }

    virtual void call() = 0;
    virtual void drop() noexcept = 0;  // destroys the callable and its arguments; called at most once

    // Touched by the loop's thread only.
    bool live_ : 1 = true;  // the callable exists
    bool repeats_ : 1;      // a reader's or a signal's callback: not dropped after a run
    bool context_given_ : 1 = false;

  public:
    bool queued_ : 1 = false;  // of repeating ones: in the ready queue now

  private:
    std::atomic<bool> cancelled_{false};
    bool shared_ = false;
    bool place_kept_ = false;  // see creation_place.hpp
    std::atomic<unsigned> owners_{0};
    EventLoop* loop_;
    union {
        ContextSlot own_;
        Ref<ContextState> given_;
    };
};

template <class F, class... Args>
class Callback final : public CallbackBase {
  public:
    template <class G, class... As>
    Callback(EventLoop& loop, bool repeats, G&& f, As&&... args)
        : CallbackBase(loop, repeats), target_{Target(std::forward<G>(f), std::forward<As>(args)...)} {}
    ~Callback() override {
        if (live_) std::destroy_at(&target_.value);
    }
    const std::type_info& callable_type() const noexcept override { return typeid(F); }

  private:
    using Target = std::conditional_t<sizeof...(Args) == 0, F, std::tuple<F, Args...>>;
    union Storage {
        Target value;
        ~Storage() {}
    };

    void call() override {
        if (repeats_) {
            if constexpr (std::is_invocable_v<F&, Args&...>) {
                if constexpr (sizeof...(Args) == 0) {
                    target_.value();
                } else {
                    std::apply([](F& f, Args&... args) { detail::invoke(f, args...); }, target_.value);
                }
            }
        } else {
            if constexpr (std::is_invocable_v<F, Args...>) {
                if constexpr (sizeof...(Args) == 0) {
                    std::move(target_.value)();
                } else {
                    std::apply([](F& f, Args&... args) { detail::invoke(std::move(f), std::move(args)...); },
                               target_.value);
                }
            }
        }
    }
    void drop() noexcept override { std::destroy_at(&target_.value); }

    Storage target_;
};

template <class F, class... Args>
concept OnceCallable = std::invocable<std::decay_t<F>, std::decay_t<Args>...>;
template <class F, class... Args>
concept RepeatCallable = std::invocable<std::decay_t<F>&, std::decay_t<Args>&...>;

template <class F, class... Args>
Ref<CallbackBase> make_callback(EventLoop& loop, bool repeats, F&& f, Args&&... args) {
    return Ref<CallbackBase>(new Callback<std::decay_t<F>, std::decay_t<Args>...>(
        loop, repeats, std::forward<F>(f), std::forward<Args>(args)...));
}

}  // namespace coil::detail
