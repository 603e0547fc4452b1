#include "coil/locks.hpp"

#include <fmt/format.h>

#include <string>

#include "base/inspection.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

template <>
struct LayoutOf<WaitNode> : WaitNode {
    static consteval InspectionPath description() { return {offsetof(LayoutOf, description_)}; }

  protected:
    ~LayoutOf() = default;
};
template <>
struct LayoutOf<Lock> {
    using Acquiring = Acquire<Lock, bool>::Waiter;
    static constexpr InspectionPath holder = {offsetof(Acquiring, primitive_), offsetof(Lock, holder_)};
};
COIL_INSPECTION_ROWS(lock) = {
    {"coil::detail::Acquire<", "", InspectionKind::TEXT, LayoutOf<WaitNode>::description()},
    {"coil::Condition::Notification", "", InspectionKind::TEXT, LayoutOf<WaitNode>::description()},
    {"coil::detail::Queue", "", InspectionKind::TEXT, LayoutOf<WaitNode>::description()},
    {"coil::detail::Acquire<coil::Lock,", "held by", InspectionKind::TASK, LayoutOf<Lock>::holder},
};

void LoopBound::throw_other_loop(const char* name) {
    throw RuntimeError(std::string(name) + " is bound to a different event loop");
}

void WaitNode::throw_destroyed() const {
    throw RuntimeError(std::string(description_) +
                       ": the object was destroyed before the waiting task could go on");
}

void report_failed_release(std::exception_ptr error) {
    // Without a running loop, a frame is destroyed with its loop: it may have given the lock back and waited to get it again.
    if (!thread_state.loop) return;
    thread_state.loop->call_exception_handler(
        {.message = "What a scope was to release was no longer held", .exception = std::move(error)});
}

}  // namespace detail

// ---- Lock

void Lock::throw_not_acquired() { throw RuntimeError("Lock is not acquired."); }

namespace {

std::string describe_waiters(const detail::WaitQueue& waiters) {
    return waiters.empty() ? "" : fmt::format(", {} waiting", waiters.size());
}

}  // namespace

std::string Lock::describe() const {
    return fmt::format("<Lock {}{}>", locked_ ? "locked" : "unlocked", describe_waiters(waiters_));
}
std::string Event::describe() const {
    return fmt::format("<Event {}{}>", set_ ? "set" : "not set", describe_waiters(waiters_));
}
std::string Condition::describe() const {
    return fmt::format("<Condition {}{}>", locked() ? "locked" : "unlocked", describe_waiters(waiters_));
}
std::string Semaphore::describe() const {
    std::string bound = bound_ >= 0 ? fmt::format(" of {}", bound_) : "";
    return fmt::format("<{} {}{}{}>", bound_ >= 0 ? "BoundedSemaphore" : "Semaphore", value_, bound,
                       describe_waiters(waiters_));
}
std::string Barrier::describe() const {
    return fmt::format("<Barrier {} of {}{}>", n_waiting(), parties(), broken() ? ", broken" : "");
}

std::string Lock::describe_holder(const detail::TaskBase& waiting) const {
    if (!locked_) return {};
    const auto& tasks = waiting.get_loop().core().tasks;
    for (const detail::TaskBase* task = tasks.front(); task; task = tasks.after(*task)) {
        if (task == holder_) return ", held by " + task->label();
    }
    return ", held by a task that has ended";
}

// ---- Event

void Event::set() noexcept {
    if (set_) return;
    set_ = true;
    waiters_.wake_all();
}

// ---- Condition

/// The wait for a notification. Says how it ended instead of throwing: the lock comes first.
class Condition::Notification final : public detail::WaitNode, public detail::OperationTag {
  public:
    explicit Notification(Condition& condition) noexcept
        : WaitNode("Condition.wait"), condition_(condition) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        condition_.waiters_.push(*this);
    }
    /// Null if notified; otherwise the cancellation. RuntimeError if the condition is gone.
    std::exception_ptr await_resume() {
        bool exists = leave_queue();
        std::exception_ptr error;
        if (cancellation_due()) {
            try {
                throw_cancelled();
            } catch (...) {
                error = std::current_exception();
            }
        }
        if (exists) return error;
        if (error) std::rethrow_exception(error);
        throw_destroyed();
    }

  private:
    Condition& condition_;
};

Coro<bool> Condition::wait() {
    if (!locked()) throw RuntimeError("cannot wait on un-acquired lock");
    bind("Condition");
    release();
    std::exception_ptr error = co_await Notification(*this);
    Lock& lock = *lock_;
    for (;;) {
        auto acquired = co_await try_await(lock.acquire());
        if (!acquired.exception()) break;
        if (!acquired.cancelled()) std::rethrow_exception(acquired.exception());
        error = acquired.exception();
    }
    if (error) {
        wake(1);  // in case this task had been notified
        std::rethrow_exception(error);
    }
    co_return true;
}

void Condition::notify(std::size_t n) {
    if (!locked()) throw RuntimeError("cannot notify on un-acquired lock");
    wake(n);
}

void Condition::wake(std::size_t n) noexcept {
    while (n-- > 0 && waiters_.wake_next()) {
    }
}

// ---- Semaphore

Semaphore::Semaphore(std::ptrdiff_t value) : Semaphore(value, -1) {}

Semaphore::Semaphore(std::ptrdiff_t value, std::ptrdiff_t bound) : value_(value), bound_(bound) {
    if (value < 0) throw ValueError("Semaphore initial value must be >= 0");
}

bool Semaphore::try_acquire() noexcept {
    if (locked()) return false;
    --value_;
    return true;
}

void Semaphore::resumed(bool granted, bool cancelled) noexcept {
    if (granted && cancelled) ++value_;
    // Newcomers have queued behind this waiter whatever the count was: as many go on as there are permits.
    while (value_ > 0 && wake_next()) {
    }
}

bool Semaphore::wake_next() noexcept {
    if (!waiters_.wake_next()) return false;
    --value_;
    return true;
}

void Semaphore::check_release() const {
    if (bound_ >= 0 && value_ >= bound_) throw ValueError("BoundedSemaphore released too many times");
}

// ---- Barrier

class Barrier::State {
  public:
    explicit State(std::size_t parties) noexcept : parties_(parties) {}

    static Coro<std::size_t> wait(std::shared_ptr<State> self) {
        auto held = co_await self->changed_.scoped();
        co_await self->changed_.wait_for(
            [&] { return self->phase_ != Phase::DRAINING && self->phase_ != Phase::RESETTING; });
        if (self->phase_ == Phase::BROKEN) throw BrokenBarrierError("Barrier aborted");
        std::size_t index = self->count_++;
        Leave leave(*self);
        if (index + 1 == self->parties_) {
            self->enter(Phase::DRAINING);
        } else {
            co_await self->changed_.wait_for([&] { return self->phase_ != Phase::FILLING; });
            if (self->phase_ != Phase::DRAINING) throw BrokenBarrierError("Abort or reset of barrier");
        }
        co_return index;
    }
    static Coro<> reset(std::shared_ptr<State> self) {
        auto held = co_await self->changed_.scoped();
        self->enter(self->count_ > 0 ? Phase::RESETTING : Phase::FILLING);
    }
    static Coro<> abort(std::shared_ptr<State> self) {
        auto held = co_await self->changed_.scoped();
        self->enter(Phase::BROKEN);
    }

    std::size_t parties() const noexcept { return parties_; }
    std::size_t waiting() const noexcept { return phase_ == Phase::FILLING ? count_ : 0; }
    bool broken() const noexcept { return phase_ == Phase::BROKEN; }

  private:
    //   phase        new ones   those inside    ends
    //   FILLING      join       wait            when all parties are there, or by reset() or abort()
    //   DRAINING     wait       go on           when the last has left: FILLING
    //   RESETTING    wait       throw           when the last has left: FILLING
    //   BROKEN       throw      throw           by reset()
    enum class Phase { FILLING, DRAINING, RESETTING, BROKEN };

    class Leave {
      public:
        explicit Leave(State& state) noexcept : state_(state) {}
        ~Leave() { state_.leave(); }
        Leave(const Leave&) = delete;
        Leave& operator=(const Leave&) = delete;

      private:
        State& state_;
    };

    void enter(Phase phase) {
        phase_ = phase;
        changed_.notify_all();
    }
    void leave() noexcept {
        if (--count_ > 0) return;
        if (phase_ == Phase::RESETTING || phase_ == Phase::DRAINING) phase_ = Phase::FILLING;
        // A frame that is destroyed with its loop while it waits does not hold the lock.
        if (changed_.locked()) changed_.notify_all();
    }

    Condition changed_;
    std::size_t parties_;
    std::size_t count_ = 0;  // inside, waiting or leaving
    Phase phase_ = Phase::FILLING;
};

Barrier::Barrier(std::ptrdiff_t parties) {
    if (parties < 1) throw ValueError("parties must be > 0");
    state_ = std::make_shared<State>(static_cast<std::size_t>(parties));
}

Coro<std::size_t> Barrier::wait() { return State::wait(state_); }
Coro<> Barrier::reset() { return State::reset(state_); }
Coro<> Barrier::abort() { return State::abort(state_); }
std::size_t Barrier::parties() const noexcept { return state_->parties(); }
std::size_t Barrier::n_waiting() const noexcept { return state_->waiting(); }
bool Barrier::broken() const noexcept { return state_->broken(); }

}  // namespace coil
