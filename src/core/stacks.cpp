#include "coil/stacks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "coil/coroutines.hpp"
#include "coil/tasks.hpp"

namespace coil {

std::string StackFrame::describe() const {
    return fmt::format("File '{}', line {}, in {}", file, line, function);
}

namespace detail {

std::vector<std::source_location> lines_of(const TaskBase& task) {
    std::vector<std::source_location> lines;
    const PromiseBase* promise = task.innermost();
    while (promise) {
        lines.push_back(promise->where());
        promise = promise->awaiter() ? promise->awaiter()->parent_promise_ : nullptr;
    }
    std::reverse(lines.begin(), lines.end());
    return lines;
}

std::vector<StackFrame> stack_of(const TaskBase& task) {
    std::vector<StackFrame> frames;
    for (const std::source_location& line : lines_of(task))
        frames.push_back({line.function_name(), line.file_name(), line.line()});
    return frames;
}

void print_stack_of(const TaskBase& task, std::ostream& out) {
    auto frames = stack_of(task);
    out << (frames.empty() ? "No stack for " : "Stack for ") << task.describe()
        << (frames.empty() ? "\n" : " (most recent call last):\n");
    for (const StackFrame& frame : frames)
        out << "  " << frame.file << ':' << frame.line << ", in " << frame.function << '\n';
}

std::string describe_stuck(const TaskBase& task) {
    std::string text = task.describe();
    for (const StackFrame& frame : stack_of(task))
        text += fmt::format("\n    {}:{}, in {}", frame.file, frame.line, frame.function);
    return text;
}

void print_stack_of(const TaskBase& task) { print_stack_of(task, std::cerr); }

}  // namespace detail

}  // namespace coil
