#pragma once

// Where a task stands: its coroutines, from the outermost to the one that waits.

#include <cstdint>
#include <iosfwd>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "coil/detail/described.hpp"
#include "coil/fwd.hpp"

namespace coil {

/// One coroutine of a task and the line of its `co_await`; if it runs, the last that it passed. The texts live for ever.
struct StackFrame {
    std::string_view function;
    std::string_view file;
    std::uint32_t line = 0;

    /// In one line, see format.hpp.
    std::string describe() const;
};

namespace detail {

class TaskBase;
/// Outermost first.
std::vector<std::source_location> lines_of(const TaskBase& task);
std::vector<StackFrame> stack_of(const TaskBase& task);
void print_stack_of(const TaskBase& task, std::ostream& out);
void print_stack_of(const TaskBase& task);  // to std::cerr
/// "<Task 'x' waiting for sleep(1s), created at x.cpp:12>" and its stack, a line each: for lists of stuck tasks.
std::string describe_stuck(const TaskBase& task);

}  // namespace detail

template <>
inline constexpr bool detail::DESCRIBED<StackFrame> = true;

}  // namespace coil
