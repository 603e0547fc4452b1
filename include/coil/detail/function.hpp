#pragma once

// The type of stored callbacks: std::function without <functional>, which would be the heaviest header that coil includes.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coil/detail/invoke.hpp"
#include "coil/detail/pool.hpp"
#include "coil/detail/ref.hpp"

namespace coil {

namespace detail {
[[noreturn]] void throw_empty_function();
}

template <class Signature>
class Function;

/// A callable, or none. Made of anything that can be called so, a std::function too; that may be move-only. Copies share the
/// callable, from thread to thread too; it goes with the last one. To call an empty one is a RuntimeError.
template <class R, class... Args>
class Function<R(Args...)> {
  public:
    Function() noexcept = default;
    Function(std::nullptr_t) noexcept {}
    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, Function> &&
                 !std::same_as<std::remove_cvref_t<F>, std::nullptr_t> &&
                 std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
    Function(F&& f) {
        if constexpr (requires { f == nullptr; }) {
            if (f == nullptr) return;
        }
        target_ = detail::Ref<Target>(new Of<std::decay_t<F>>(std::forward<F>(f)));
    }

    R operator()(Args... args) const {
        if (!target_) detail::throw_empty_function();
        return target_->call(std::forward<Args>(args)...);
    }
    /// The callable, where it is an F; else null.
    template <class F>
    F* target() const noexcept {
        return target_ && target_->type() == typeid(F) ? &static_cast<Of<F>&>(*target_).f_ : nullptr;
    }
    explicit operator bool() const noexcept { return static_cast<bool>(target_); }
    friend bool operator==(const Function& function, std::nullptr_t) noexcept { return !function.target_; }

  private:
    struct Target : detail::Pooled {
        Target() = default;
        Target(const Target&) = delete;
        virtual ~Target() = default;
        virtual R call(Args... args) = 0;
        virtual const std::type_info& type() const noexcept = 0;
        void retain() noexcept { owners_.fetch_add(1, std::memory_order_relaxed); }
        void release() noexcept {
            // ORDER: the last owner must see all that other threads did with the callable before it destroys it.
            if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
        }
        std::atomic<unsigned> owners_{0};
    };
    template <class F>
    struct Of final : Target {
        template <class G>
        explicit Of(G&& f) : f_(std::forward<G>(f)) {}
        R call(Args... args) override {
            if constexpr (std::is_void_v<R>) {
                detail::invoke(f_, std::forward<Args>(args)...);
            } else {
                return detail::invoke(f_, std::forward<Args>(args)...);
            }
        }
        const std::type_info& type() const noexcept override { return typeid(F); }
        F f_;
    };

    detail::Ref<Target> target_;
};

}  // namespace coil
