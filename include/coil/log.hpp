#pragma once

// Where coil's messages go: asyncio's logger "asyncio".

#include <string_view>

#include "coil/detail/function.hpp"

namespace coil {

enum class LogLevel { DEBUG_, INFO, WARNING, ERROR_, CRITICAL };

/// May be called from any thread, several at once. The text has no line end.
using LogHandler = Function<void(LogLevel, std::string_view)>;

/// Replaces the handler of the whole process; an empty one brings back the default: warnings and worse, to stderr.
void set_log_handler(LogHandler handler);

/// Gives a message to the handler. What the handler throws is dropped: a log call never fails.
void log(LogLevel level, std::string_view text) noexcept;

}  // namespace coil
