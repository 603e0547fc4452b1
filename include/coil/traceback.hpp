#pragma once

// Where an exception went: the coroutines that it has passed through, across tasks, as Python's traceback has it. Works in every
// build. What is remembered are the lines of the `co_await`s; plain functions in between are not seen.

#include <exception>
#include <iosfwd>
#include <string>
#include <vector>

#include "coil/stacks.hpp"

namespace coil {

struct TracebackEntry {
    StackFrame frame;
    bool thrown_here =
        false;  // in this coroutine, somewhere behind the line; else it came through the line's `co_await`
};

/// Outermost first. Empty for an exception that has passed through no coroutine, or so long ago, and kept by no future, that its
/// way is forgotten.
std::vector<TracebackEntry> extract_tb(const std::exception_ptr& error);
/// The way, then type and text; of groups a tree. As Python prints it, most recent call last. Ends without a line break.
std::string format_exception(const std::exception_ptr& error);
/// The same to std::cerr, or to a stream.
void print_exception(const std::exception_ptr& error);
void print_exception(const std::exception_ptr& error, std::ostream& out);

}  // namespace coil
