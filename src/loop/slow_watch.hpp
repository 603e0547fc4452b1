#pragma once

// Debug mode's watch over how long each callback takes. Only while one runs can it be said what it is; so who runs it asks
// afterwards whether it was slow, and then leaves a description.

#include <chrono>
#include <string>
#include <utility>

#include "coil/detail/thread_state.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

class SlowWatch {
  public:
    explicit SlowWatch(const Duration& limit) noexcept : limit_(limit) { thread_state.slow_watch = this; }
    ~SlowWatch() { thread_state.slow_watch = nullptr; }
    SlowWatch(const SlowWatch&) = delete;
    SlowWatch& operator=(const SlowWatch&) = delete;

    void begin() noexcept {
        what_.clear();
        began_ = Clock::now();
    }
    bool slow() const noexcept { return Clock::now() - began_ >= limit_; }
    /// The innermost description is the best one, and comes first.
    void describe(std::string what) {
        if (what_.empty()) what_ = std::move(what);
    }
    /// Warns if it was slow.
    void end() const;

  private:
    // Not the loop's clock: on virtual time nothing would ever be slow.
    using Clock = std::chrono::steady_clock;

    const Duration& limit_;  // the loop's: callbacks may change it
    Clock::time_point began_;
    std::string what_;
};

/// For whoever runs a callback: `what` makes its description.
template <class What>
void describe_if_slow(const What& what) {
    SlowWatch* watch = thread_state.slow_watch;
    if (watch && watch->slow()) [[unlikely]]
        watch->describe(what());
}

}  // namespace coil::detail
