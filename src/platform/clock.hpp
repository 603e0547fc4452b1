#pragma once

// The real clock, and the cheaper one that only tells whether a few microseconds have passed.

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "coil/fwd.hpp"

namespace coil::detail {

inline TimePoint steady_now() noexcept {
    return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

/// From `now` to `deadline`, not negative, at most a day: longer waits are looked at again.
inline timespec time_left(TimePoint now, TimePoint deadline) noexcept {
    constexpr Duration DAY = std::chrono::hours(24);
    Duration left = deadline <= now ? Duration::zero() : deadline - now > DAY ? DAY : deadline - now;
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    return {static_cast<time_t>(seconds.count()), static_cast<long>((left - seconds).count())};
}

/// Processor ticks; about one to four per nanosecond.
inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return static_cast<std::uint64_t>(steady_now().time_since_epoch().count()) * 2;
#endif
}

}  // namespace coil::detail
