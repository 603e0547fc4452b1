#include "coil/stacks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "coil/coroutines.hpp"
#include "coil/tasks.hpp"

namespace coil {

namespace detail {

std::vector<StackFrame> stack_of(const TaskBase& task) {
    std::vector<StackFrame> frames;
    const PromiseBase* promise = task.innermost();
    while (promise) {
        const std::source_location& where = promise->where();
        frames.push_back({where.function_name(), where.file_name(), where.line()});
        promise = promise->awaiter() ? promise->awaiter()->parent_promise_ : nullptr;
    }
    std::reverse(frames.begin(), frames.end());
    return frames;
}

void print_stack_of(const TaskBase& task, std::ostream& out) {
    auto frames = stack_of(task);
    out << (frames.empty() ? "No stack for " : "Stack for ") << task.describe()
        << (frames.empty() ? "\n" : " (most recent call last):\n");
    for (const StackFrame& frame : frames)
        out << "  " << frame.file << ':' << frame.line << ", in " << frame.function << '\n';
}

std::string creation_place(const TaskBase& task) {
    const std::source_location& where = task.created_at();
    if (where.line() == 0) return {};
    return fmt::format("{}:{}", where.file_name(), where.line());
}

std::string describe_stuck(const TaskBase& task) {
    std::string text = task.describe();
    if (const Waiter* waiter = task.waiting_on()) text += " waiting for " + waiter->describe();
    if (std::string where = creation_place(task); !where.empty()) text += ", created at " + where;
    for (const StackFrame& frame : stack_of(task))
        text += fmt::format("\n    {}:{}, in {}", frame.file, frame.line, frame.function);
    return text;
}

void print_stack_of(const TaskBase& task) { print_stack_of(task, std::cerr); }

}  // namespace detail

}  // namespace coil
