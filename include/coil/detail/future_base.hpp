#pragma once

// The state machine of a future, without its value's type.
//
//     PENDING ──set_result──► FINISHED (value)
//        ├──────set_exception► FINISHED (error_)
//        └──────cancel───────► CANCELLED (error_ only if a message or the exception object is to be kept)
//
// Who waits is a list of DoneNodes. Leaving PENDING moves all of them to the loop's ready queue, in order; so a node is in
// the list exactly while the future is pending.

#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "coil/contextvars.hpp"
#include "coil/detail/creation_place.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/detail/pool.hpp"
#include "coil/detail/ref.hpp"
#include "coil/detail/runnable.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

struct DoneNode : Runnable {
    using Runnable::Runnable;
    FutureBase* keeps_ = nullptr;  // retained while the node is in the ready queue
    DoneNode* prev_ = nullptr;     // next_ is Runnable's

    DoneNode* next() const noexcept { return static_cast<DoneNode*>(next_); }
};

/// A function that waits for a future's end, shared by every registration of it.
class DoneCallable : public Pooled {
  public:
    virtual ~DoneCallable() = default;
    virtual void call(FutureBase& future) = 0;
    /// Address of a plain function, so that equal ones are found equal; null for other callables.
    virtual void (*function() const noexcept)() { return nullptr; }
    virtual const std::type_info& type() const noexcept = 0;
    /// What the future that it is registered with waits for.
    virtual FutureBase* awaited() const noexcept { return nullptr; }
    void retain() noexcept { ++count_; }
    void release() noexcept {
        if (--count_ == 0) delete this;
    }

  private:
    unsigned count_ = 0;
};

class FutureBase : public Pooled {
  public:
    enum class State : std::uint8_t { PENDING, FINISHED, CANCELLED };

    explicit FutureBase(EventLoop& loop) noexcept;
    FutureBase(const FutureBase&) = delete;
    FutureBase& operator=(const FutureBase&) = delete;

    // Not atomic: a future belongs to its loop's thread.
    void retain() noexcept { ++owners_; }
    void release() noexcept {
        if (--owners_ == 0) destroy();
    }

    bool done() const noexcept { return state_ != State::PENDING; }
    bool cancelled() const noexcept { return state_ == State::CANCELLED; }
    virtual bool is_task() const noexcept { return false; }

    /// RuntimeError if the loop is gone.
    EventLoop& get_loop() const;
    EventLoop* loop_if_alive() const noexcept { return anchor_->loop; }

    virtual bool cancel(std::string_view message);
    /// What `cancelled()` futures throw.
    [[noreturn]] void throw_cancelled() const;

    /// Returns if there is a value; otherwise throws what result() throws. The exception counts as seen.
    void check_result() {
        if (state_ == State::FINISHED && !error_) return;
        throw_no_result();
    }
    /// Null if there is a value; throws like `Future::exception`.
    std::exception_ptr exception();
    /// The error or the cancellation as an exception, without throwing; null for a value. Must be done.
    std::exception_ptr outcome_error() noexcept;
    /// The stored error of a finished future; does not count as seen.
    const std::exception_ptr& stored_error() const noexcept { return error_; }
    void mark_retrieved() noexcept { unseen_error_ = false; }
    /// The error is about to be thrown to somebody: its traceback goes on from here, whoever else has been given it.
    void begin_rethrow(const std::exception_ptr& error) const noexcept;

    void set_exception(std::exception_ptr error);
    /// Misuse checks of set_result/set_exception: a task, or a future that is done.
    void check_settable(const char* operation) const;
    /// The value is in place: leave PENDING.
    void set_finished() { settle(State::FINISHED); }

    void add_waiter(DoneNode& node) noexcept;
    void remove_waiter(DoneNode& node) noexcept;

    void add_done_callback(Ref<DoneCallable> callable, Ref<ContextState> context);
    std::size_t remove_done_callback(const DoneCallable& callable);

    /// Address of the value, for Future<T>::result; null for void.
    virtual void* value() noexcept { return nullptr; }
    virtual bool has_value_type() const noexcept { return false; }

    /// "<Task 'x' waiting for Event.wait, created at x.cpp:12>"
    std::string describe() const;
    /// "Task 'x'", "Future", "Future created at x.cpp:12": where another one is described.
    virtual std::string label() const;
    /// In debug mode: it has just been made there.
    void keep_creation_place(const std::source_location& where) noexcept;
    /// Adds the futures that this one waits for: of a task, of gather's future, of a shield.
    virtual void awaited(std::vector<FutureBase*>& futures) const;
    /// Of a task in a group: the group's task. Null otherwise.
    TaskBase* parent() const noexcept;
    /// Of add_awaited(): the callback that says that this one waits for `future`; null if there is none.
    DoneCallable* told_awaited(const FutureBase& future) const noexcept;

  protected:
    virtual ~FutureBase();

    void settle(State state);
    /// Drops the callbacks uncalled.
    void forget_callbacks() noexcept;
    void settle_cancelled(std::exception_ptr error) {
        error_ = std::move(error);
        settle(State::CANCELLED);
    }
    void settle_error(std::exception_ptr error);
    virtual const char* kind() const noexcept { return "Future"; }
    /// The context that reports about this future run in; null: the current one.
    virtual ContextSlot* report_context() noexcept { return nullptr; }

  private:
    template <class>
    friend struct LayoutOf;

    [[noreturn]] void throw_no_result();
    void destroy() noexcept;
    void report_unseen_error() noexcept;

    Ref<LoopAnchor> anchor_;
    DoneNode* first_ = nullptr;
    DoneNode* last_ = nullptr;

  protected:
    std::exception_ptr error_;

  private:
    unsigned owners_ = 0;
    State state_ = State::PENDING;
    bool trail_kept_ = false;    // of the error: see traceback.hpp
    bool place_kept_ = false;    // see creation_place.hpp
    bool unseen_error_ = false;  // an exception that nobody has looked at: reported when the last owner goes
};

/// FutureBase::describe(), or what an empty handle of this kind is.
std::string describe_future(const FutureBase* future, std::string_view kind);

}  // namespace coil::detail
