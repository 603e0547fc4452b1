#pragma once

#include <utility>

#include "coil/events.hpp"
#include "coil/log.hpp"

namespace coil::detail {

/// In debug mode: logs what `text` gives. Nothing fails for it: what it throws is dropped with the line.
template <class Text>
void debug_log(const EventLoop& loop, LogLevel level, Text&& text) noexcept {
    if (!loop.get_debug()) return;
    try {
        log(level, std::forward<Text>(text)());
    } catch (...) {  // no memory
    }
}

}  // namespace coil::detail
