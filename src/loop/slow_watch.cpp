#include "loop/slow_watch.hpp"

#include <fmt/format.h>

#include "coil/log.hpp"

namespace coil::detail {

void SlowWatch::end() const {
    auto took = Clock::now() - began_;
    if (took < limit_) return;
    log(LogLevel::WARNING,
        fmt::format("Executing {} took {:.3f} seconds", what_.empty() ? "a callback of coil's own" : what_,
                    std::chrono::duration<double>(took).count()));
}

}  // namespace coil::detail
