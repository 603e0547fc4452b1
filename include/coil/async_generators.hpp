#pragma once

// AsyncGenerator<T>: a coroutine that gives values by `co_yield` and may await in between.
//
//     while (auto value = co_await generator.next()) use(*value);
//
// One that is dropped half-way is closed by the loop, in a task of its own; `run` closes all that are left.

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/list.hpp"
#include "coil/detail/operation.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

/// A generator without its values' type: it is its coroutine's promise.
///
///   state      frame                        next() / aclose()
///   CREATED    before its first line        begins it / ends it unbegun
///   SUSPENDED  at a co_yield                goes on / throws GeneratorExit there
///   RUNNING    driven by some coroutine     RuntimeError
///   FINISHED   ended                        nothing / nothing
class AsyncGeneratorBase : public PromiseBase, public ListNode {
  public:
    enum class State : std::uint8_t { CREATED, SUSPENDED, RUNNING, FINISHED };

    explicit AsyncGeneratorBase(std::coroutine_handle<> frame) noexcept : frame_(frame) {}

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        Transfer await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
            return ended.promise().give_back(State::FINISHED);
        }
        void await_resume() const noexcept {}
    };
    FinalAwaiter final_suspend() noexcept { return {}; }
    void return_void() noexcept {}

    State state() const noexcept { return state_; }
    /// CREATED becomes FINISHED: its body never runs.
    void finish_unbegun() noexcept { state_ = State::FINISHED; }

    // Owners: the handle, and every operation under way. When the last one goes, so does the frame; one that stands at a co_yield
    // is closed by the loop first.
    void retain() noexcept { ++owners_; }
    void release() noexcept {
        if (--owners_ == 0) abandoned();
    }
    /// Throws GeneratorExit at its co_yield and lets it end.
    Coro<> close();
    Coro<> throw_in(std::exception_ptr error);
    /// The name of the generator's function.
    const char* name() const noexcept { return name_ ? name_ : where_.function_name(); }
    std::string describe() const;

    /// Runs the generator to its next co_yield or its end.
    class Resume : public Awaiter, public OperationTag {
      public:
        Resume(AsyncGeneratorBase& generator, const char* operation, std::exception_ptr thrown = {});
        Resume(const Resume&) = delete;
        Resume& operator=(const Resume&) = delete;
        ~Resume();
        bool await_ready() const noexcept { return generator_->state_ == State::FINISHED; }
        template <class Promise>
        Transfer await_suspend(std::coroutine_handle<Promise> parent) noexcept {
            parent_ = parent;
            parent_promise_ = &parent.promise();
            begin();
            thread_state.task->enter(*generator_);
            return transfer_to(generator_->frame_);
        }
        /// True if it yielded; throws what ended it.
        bool await_resume();

      private:
        void begin() noexcept;
        Ref<AsyncGeneratorBase> generator_;
        std::exception_ptr thrown_;
        bool driving_ = false;
    };

  protected:
    Transfer give_back(State state) noexcept {
        state_ = state;
        if (state == State::FINISHED && linked()) unlink();
        Awaiter* driver = std::exchange(awaiter_, nullptr);
        thread_state.task->enter(*driver->parent_promise_);
        return transfer_to(driver->parent_);
    }
    void rethrow_thrown() {
        if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
    }

  private:
    void track();
    void abandoned() noexcept;

    std::coroutine_handle<> frame_;
    unsigned owners_ = 0;
    Ref<LoopAnchor> loop_;       // of the first iteration
    std::exception_ptr thrown_;  // what the co_yield is to throw
    const char* name_ = nullptr;
    State state_ = State::CREATED;
    bool closed_by_loop_ = false;  // once: then the frame goes, whatever came of it
};

template <class T>
class AsyncGeneratorPromise final : public AsyncGeneratorBase {
  public:
    AsyncGeneratorPromise() noexcept
        : AsyncGeneratorBase(std::coroutine_handle<AsyncGeneratorPromise>::from_promise(*this)) {}
    AsyncGenerator<T> get_return_object() noexcept { return AsyncGenerator<T>(*this); }

    struct YieldAwaiter {
        AsyncGeneratorPromise& promise;
        bool await_ready() const noexcept { return false; }
        Transfer await_suspend(std::coroutine_handle<AsyncGeneratorPromise>) const noexcept {
            return promise.give_back(State::SUSPENDED);
        }
        void await_resume() const { promise.rethrow_thrown(); }
    };
    template <class U>
        requires std::constructible_from<T, U&&>
    YieldAwaiter yield_value(U&& value) {
        value_.emplace(std::forward<U>(value));
        return {*this};
    }
    std::optional<T> take() {
        std::optional<T> value(std::move(*value_));
        value_.reset();
        return value;
    }

  private:
    std::optional<T> value_;
};

}  // namespace detail

template <class T>
class [[nodiscard]] AsyncGenerator {
  public:
    using promise_type = detail::AsyncGeneratorPromise<T>;
    using value_type = T;

    AsyncGenerator(AsyncGenerator&&) noexcept = default;
    AsyncGenerator& operator=(AsyncGenerator&&) noexcept = default;

    /// Gives the next value, or nothing at the end: Python's `__anext__`. RuntimeError while another call is under way.
    auto next() { return Next(promise()); }
    /// Throws the error at the generator's co_yield; gives the next value or nothing.
    Coro<std::optional<T>> athrow(std::exception_ptr error) {
        detail::Ref<promise_type> generator(&promise());  // the handle may go meanwhile
        co_await generator->throw_in(std::move(error));
        if (generator->state() == detail::AsyncGeneratorBase::State::FINISHED) co_return std::nullopt;
        co_return generator->take();
    }
    /// Ends the generator: GeneratorExit is thrown at its co_yield, and what it cleans up may await.
    Coro<> aclose() { return promise().close(); }
    /// In one line, see format.hpp.
    std::string describe() const { return promise_ ? promise_->describe() : "<AsyncGenerator empty>"; }

  private:
    friend promise_type;
    explicit AsyncGenerator(promise_type& promise) noexcept : promise_(&promise) {}
    promise_type& promise() const {
        if (!promise_) throw RuntimeError("this AsyncGenerator has been moved from");
        return *promise_;
    }

    class [[nodiscard("co_await it")]] Next final : public detail::Operation<std::optional<T>> {
      public:
        explicit Next(promise_type& generator) : generator_(&generator) {}
        Next(Next&& other) noexcept : generator_(other.generator_) {}
        bool await_ready() {
            resume_.emplace(*generator_, "anext()");
            return resume_->await_ready();
        }
        template <class Promise>
        detail::Transfer await_suspend(std::coroutine_handle<Promise> parent) {
            return resume_->await_suspend(parent);
        }
        std::optional<T> await_resume() {
            if (!resume_->await_resume()) return std::nullopt;
            return generator_->take();
        }

      private:
        detail::Ref<promise_type> generator_;
        std::optional<detail::AsyncGeneratorBase::Resume> resume_;
    };

    detail::Ref<promise_type> promise_;
};

template <class T>
inline constexpr bool detail::DESCRIBED<AsyncGenerator<T>> = true;

}  // namespace coil
