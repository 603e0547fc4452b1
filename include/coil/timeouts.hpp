#pragma once

// Time limits: `co_await async_with(timeout(5s), body)`. The body sees CancelledError; outside of the block it is
// TimeoutError, unless somebody else cancelled the task as well.

#include <exception>
#include <optional>

#include "coil/detail/described.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/fwd.hpp"

namespace coil {

/// A context manager for `async_with`; entered once. May be moved before that.
class Timeout {
  public:
    explicit Timeout(std::optional<TimePoint> when) noexcept : when_(when) {}
    Timeout(Timeout&& other) noexcept;
    Timeout& operator=(Timeout&&) = delete;
    ~Timeout();

    /// The deadline on the loop's clock; nothing: no limit.
    std::optional<TimePoint> when() const noexcept { return when_; }
    /// In one line, see format.hpp.
    std::string describe() const;
    /// Moves the deadline; one that has passed fires in the next turn. RuntimeError unless the block is being run.
    void reschedule(std::optional<TimePoint> when);
    /// True once the deadline has fired, also while the block still unwinds.
    bool expired() const noexcept { return state_ == State::EXPIRING || state_ == State::EXPIRED; }

    Timeout& enter();
    void exit(const std::exception_ptr& error);

  private:
    enum class State { CREATED, ENTERED, EXPIRING, EXPIRED, EXITED };
    void fire();

    std::optional<TimePoint> when_;
    State state_ = State::CREATED;
    detail::TaskBase* task_ = nullptr;  // runs the block, so it lives as long as that
    int cancelling_ = 0;                // its requests at entry
    TimerHandle timer_;
    Handle immediate_;
};

/// A limit of `delay` from now. RuntimeError without a running loop.
Timeout timeout(std::optional<Duration> delay);
template <class Rep, class Period>
Timeout timeout(std::chrono::duration<Rep, Period> delay) {
    return timeout(std::optional<Duration>(detail::to_duration(delay)));
}
/// A limit at a point on the loop's clock.
Timeout timeout_at(std::optional<TimePoint> when);
template <class D>
Timeout timeout_at(std::chrono::time_point<std::chrono::steady_clock, D> when) {
    return timeout_at(std::optional<TimePoint>(detail::to_time_point(when)));
}

template <>
inline constexpr bool detail::DESCRIBED<Timeout> = true;

}  // namespace coil
