#pragma once

// Context variables: values that follow the flow of a program through tasks and callbacks. A task works in a copy of its
// creator's context; a callback sees the context of its registration. Copying a context is O(1).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coil/detail/described.hpp"
#include "coil/detail/invoke.hpp"
#include "coil/detail/pool.hpp"
#include "coil/detail/ref.hpp"
#include "coil/detail/thread_state.hpp"
#include "coil/exceptions.hpp"
#include "coil/fwd.hpp"

namespace coil {

template <class T>
class ContextVar;

namespace detail {

/// A value of one variable; immutable once set, shared by all contexts that were copied from one another.
struct ContextValue {
    virtual ~ContextValue() = default;
    void retain() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        // ORDER: the last owner must see all that other threads did with the value before it destroys it.
        if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
    std::atomic<unsigned> count_{0};  // atomic: contexts travel to other threads
};

template <class T>
struct TypedContextValue final : ContextValue {
    explicit TypedContextValue(T v) : value(std::move(v)) {}
    T value;
};

/// Variables and their values, sorted by variable. Shared between contexts, copied when a shared one is changed.
struct ContextMap {
    std::vector<std::pair<std::uint64_t, Ref<ContextValue>>> entries;
    std::atomic<unsigned> count_{0};
    void retain() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
};

/// Where a context keeps its map: inside a Context, a task or a callback's handle. Null map: no variable is set.
struct ContextSlot {
    Ref<ContextMap> map;

    ContextValue* find(std::uint64_t var) const noexcept;
    void set(std::uint64_t var, Ref<ContextValue> value);
    void erase(std::uint64_t var);
};

std::uint64_t next_context_var_id() noexcept;
ContextSlot& thread_context() noexcept;

inline ContextSlot& current_context() noexcept {
    return thread_state.context ? *thread_state.context : thread_context();
}

/// Makes a context current for a scope.
class ContextScope {
  public:
    explicit ContextScope(ContextSlot& slot) noexcept : before_(std::exchange(thread_state.context, &slot)) {}
    ~ContextScope() { thread_state.context = before_; }
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;

  private:
    ContextSlot* before_;
};

struct ContextState : Pooled {
    ContextState() = default;
    ContextState(const ContextState&) = delete;
    virtual ~ContextState() = default;
    ContextSlot own;
    ContextSlot* slot = &own;  // or that of a task
    bool entered = false;
    std::atomic<unsigned> count_{0};
    void retain() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
};

}  // namespace detail

/// A mapping from context variables to values. Copying the handle shares the mapping; `copy()` makes a new one.
class Context {
  public:
    /// An empty context.
    Context() : state_(new detail::ContextState) {}

    Context copy() const;

    /// Calls `f(args…)` in this context and gives what it returns; what it sets stays in this context.
    /// RuntimeError if the context is entered already.
    template <class F, class... Args>
    decltype(auto) run(F&& f, Args&&... args) const {
        Entry entry(*state_);
        return detail::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    }

    template <class T>
    bool contains(const ContextVar<T>& var) const noexcept {
        return state_->slot->find(var.id_) != nullptr;
    }
    /// The value that the variable has here; LookupError if it has none.
    template <class T>
    T operator[](const ContextVar<T>& var) const;
    std::size_t size() const noexcept;
    /// In one line, see format.hpp.
    std::string describe() const;

    friend bool operator==(const Context& a, const Context& b) noexcept {
        return a.state_->slot == b.state_->slot;
    }

    /// For coil's own layers.
    explicit Context(detail::Ref<detail::ContextState> state) : state_(std::move(state)) {}
    const detail::Ref<detail::ContextState>& state() const noexcept { return state_; }

  private:
    class Entry {
      public:
        explicit Entry(detail::ContextState& state);
        ~Entry() { state_.entered = false; }
        Entry(const Entry&) = delete;
        Entry& operator=(const Entry&) = delete;

      private:
        detail::ContextState& state_;
        std::optional<detail::ContextScope> scope_;
    };

    detail::Ref<detail::ContextState> state_;
};

/// A new context with the values of the current one.
Context copy_context();

namespace detail {
struct InContext {
    Ref<ContextState> state;
};
}  // namespace detail

/// First argument of `call_soon` and its kind: run the callback in this context, not in a copy of the current one.
inline detail::InContext in_context(const Context& context) { return {context.state()}; }

/// Undoes one `ContextVar::set`, once, in the context where it was made.
template <class T>
class Token {
  public:
    Token(Token&&) noexcept = default;
    Token& operator=(Token&&) noexcept = default;

    const ContextVar<T>& var() const noexcept { return *var_; }
    /// What the variable had before; nothing where it was not set.
    std::optional<T> old_value() const {
        if (!old_) return std::nullopt;
        return static_cast<detail::TypedContextValue<T>&>(*old_).value;
    }
    /// In one line, see format.hpp.
    std::string describe() const { return "<Token of '" + var_->name() + (used_ ? "', used>" : "'>"); }

  private:
    friend class ContextVar<T>;
    Token(const ContextVar<T>* var, detail::ContextSlot* slot, detail::Ref<detail::ContextValue> old)
        : var_(var), slot_(slot), old_(std::move(old)) {}

    const ContextVar<T>* var_;
    detail::ContextSlot* slot_;
    detail::Ref<detail::ContextValue> old_;
    bool used_ = false;
};

/// One variable; usually an object of static storage. It must outlive the contexts' use of it, not the contexts.
template <class T>
class ContextVar {
  public:
    explicit ContextVar(std::string_view name) : name_(name) {}
    ContextVar(std::string_view name, T default_value) : name_(name), default_(std::move(default_value)) {}
    ContextVar(const ContextVar&) = delete;
    ContextVar& operator=(const ContextVar&) = delete;

    const std::string& name() const noexcept { return name_; }
    /// In one line, see format.hpp.
    std::string describe() const { return "<ContextVar '" + name_ + "'>"; }

    /// The value in the current context, else the default; LookupError without either.
    T get() const {
        if (auto* value = find()) return value->value;
        if (default_) return *default_;
        throw LookupError("context variable '" + name_ + "' has no value here and no default");
    }
    T get(T fallback) const {
        if (auto* value = find()) return value->value;
        return fallback;
    }
    Token<T> set(T value) {
        detail::ContextSlot& slot = detail::current_context();
        Token<T> token(this, &slot, detail::Ref<detail::ContextValue>(slot.find(id_)));
        slot.set(id_, detail::Ref<detail::ContextValue>(new detail::TypedContextValue<T>(std::move(value))));
        return token;
    }
    /// ValueError for another variable's token or another context; RuntimeError for one that was used.
    void reset(Token<T>& token) {
        if (token.used_) throw RuntimeError("this token has already been used once; set() gives a new one");
        if (token.var_ != this) throw ValueError("this token was made by another context variable");
        detail::ContextSlot& slot = detail::current_context();
        if (token.slot_ != &slot) throw ValueError("this token was made in a different context");
        token.used_ = true;
        if (token.old_) {
            slot.set(id_, token.old_);
        } else {
            slot.erase(id_);
        }
    }
    void reset(Token<T>&& token) { reset(token); }

  private:
    friend class Context;
    detail::TypedContextValue<T>* find() const noexcept {
        return static_cast<detail::TypedContextValue<T>*>(detail::current_context().find(id_));
    }

    std::uint64_t id_ = detail::next_context_var_id();
    std::string name_;
    std::optional<T> default_;
};

template <class T>
T Context::operator[](const ContextVar<T>& var) const {
    auto* value = state_->slot->find(var.id_);
    if (!value) throw LookupError("context variable '" + var.name() + "' is not set in this context");
    return static_cast<detail::TypedContextValue<T>*>(value)->value;
}

template <>
inline constexpr bool detail::DESCRIBED<Context> = true;
template <class T>
inline constexpr bool detail::DESCRIBED<ContextVar<T>> = true;
template <class T>
inline constexpr bool detail::DESCRIBED<Token<T>> = true;

}  // namespace coil
