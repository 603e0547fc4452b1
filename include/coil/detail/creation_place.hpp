#pragma once

// Debug mode: where handles, futures and tasks were made. In a table beside them, so that they are no larger for it. Any thread.

#include <source_location>
#include <string>

namespace coil::detail {

/// Keeps the lines of the running task's coroutines, at most the 10 innermost, and `where` behind them if it has a line. False, and
/// nothing is kept, without both or without memory; after true, forget_creation_place() when the object goes.
bool keep_creation_place(const void* object, const std::source_location& where = {}) noexcept;
void forget_creation_place(const void* object) noexcept;

/// "created at x.cpp:12", or "created after x.cpp:12" in a coroutine that has passed that line; empty where nothing is kept.
std::string creation_place(const void* object);
/// A line for each coroutine, most recent call last, as in a traceback; empty where nothing is kept.
std::string creation_trail(const void* object);

}  // namespace coil::detail
