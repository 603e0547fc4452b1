#pragma once

// Where a task stands: its coroutines, from the outermost to the one that waits.

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "coil/fwd.hpp"

namespace coil {

/// One coroutine of a task and the line of its `co_await`; if it runs, the last that it passed. The texts live for ever.
struct StackFrame {
    std::string_view function;
    std::string_view file;
    std::uint32_t line = 0;
};

namespace detail {

class TaskBase;
std::vector<StackFrame> stack_of(const TaskBase& task);
void print_stack_of(const TaskBase& task, std::ostream& out);
void print_stack_of(const TaskBase& task);  // to std::cerr
/// "x.cpp:12"; empty where nobody knows.
std::string creation_place(const TaskBase& task);
/// "Task 'x' waiting for sleep(1s), created at x.cpp:12" and its stack, a line each: for lists of stuck tasks.
std::string describe_stuck(const TaskBase& task);

}  // namespace detail

}  // namespace coil
