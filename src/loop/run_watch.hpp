#pragma once

// What looks at each callback of a turn: debug mode's warning of slow ones, and the trace. Only while one runs can it be said
// what it is; so who runs it leaves a description.

#include <chrono>
#include <string>
#include <utility>

#include "coil/detail/loop_core.hpp"
#include "coil/detail/thread_state.hpp"
#include "coil/fwd.hpp"
#include "loop/tracer.hpp"

namespace coil::detail {

class RunWatch {
  public:
    using Clock = Tracer::Clock;

    RunWatch(LoopCore& core, const Duration& limit) noexcept;
    ~RunWatch();
    RunWatch(const RunWatch&) = delete;
    RunWatch& operator=(const RunWatch&) = delete;

    /// `next` has left the queue and is about to run.
    void begin(const Runnable& next) noexcept;
    void end();

    /// The trace of the run; null: there is none.
    Tracer* tracer() const noexcept { return tracer_.get(); }
    bool slow(Clock::duration took) const noexcept { return took >= limit_; }
    bool to_be_warned_of() const noexcept { return warns_ && slow(Clock::now() - began_); }

    /// Asked by who runs a callback, when that is over; then describe() must follow.
    bool wants_description() noexcept {
        asked_ = Clock::now();
        return tracer_ || (warns_ && slow(asked_ - began_));
    }
    void describe(std::string what);
    /// For the warning. The innermost description is the best one, and comes first.
    void describe_slow(std::string what) {
        if (slow_what_.empty()) slow_what_ = std::move(what);
    }
    /// The step of this task has been written to the trace.
    void stepped(const Tracer::Slice& step, const Runnable& task) noexcept {
        slice_ = step;
        stepped_ = &task;
    }

  private:
    /// What runs, if nobody describes it.
    std::string_view name() const;
    void warn(Clock::duration took) const;
    void trace(Clock::time_point ended);

    LoopCore& core_;
    const Duration& limit_;  // the loop's: callbacks may change it
    const bool warns_;
    bool running_ = false;
    Clock::time_point began_;
    Clock::time_point asked_;
    Runnable::Function function_ = nullptr;
    std::string slow_what_;

    // of a run that is traced
    Ref<Tracer> tracer_;
    const Runnable* node_ = nullptr;
    const Runnable* back_ = nullptr;     // of the queue before it
    const Runnable* stepped_ = nullptr;  // the task whose step it was
    Tracer::Slice slice_;                // that step
    std::string what_;                   // the outermost description
    Clock::duration describing_{};       // is no part of it
    std::uint64_t arrow_ = 0;            // that ends here
};

/// For whoever runs a callback: `what` makes its description.
template <class What>
void describe_run(const What& what) {
    RunWatch* watch = thread_state.run_watch;
    if (watch && watch->wants_description()) [[unlikely]]
        watch->describe(what());
}

}  // namespace coil::detail
