#include "coil/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include "coil/events.hpp"
#include "coil/tasks.hpp"

namespace coil {

namespace detail {

namespace {

/// Who waits for a future, turned round from what every task waits for: nothing need be recorded while the program runs.
class AwaitedBy {
  public:
    explicit AwaitedBy(EventLoop& loop) {
        const auto& tasks = loop.core().tasks;
        for (TaskBase* task = tasks.front(); task; task = tasks.after(*task)) follow(*task);
        for (TaskBase* task = tasks.front(); task; task = tasks.after(*task)) {
            if (TaskBase* parent = task->parent()) {
                auto& waiters = waiters_[task];
                if (std::ranges::find(waiters, parent) == waiters.end()) waiters.push_back(parent);
            }
        }
    }
    std::vector<FutureBase*> of(FutureBase& future) const {
        auto found = waiters_.find(&future);
        return found == waiters_.end() ? std::vector<FutureBase*>() : found->second;
    }

  private:
    /// From a waiter to all that it waits for; between tasks there may be futures, as gather's.
    void follow(FutureBase& first) {
        std::vector<FutureBase*> left{&first};
        while (!left.empty()) {
            FutureBase* waiter = left.back();
            left.pop_back();
            std::vector<FutureBase*> awaited;
            waiter->awaited(awaited);
            for (FutureBase* future : awaited) {
                auto [entry, is_new] = waiters_.try_emplace(future);
                entry->second.push_back(waiter);
                if (is_new && !future->is_task()) left.push_back(future);  // a task is followed for itself
            }
        }
    }
    std::unordered_map<FutureBase*, std::vector<FutureBase*>> waiters_;
};

void limit_stack(std::vector<StackFrame>& stack, std::optional<std::ptrdiff_t> limit) {
    if (!limit) return;
    auto size = static_cast<std::ptrdiff_t>(stack.size());
    if (*limit >= 0) {
        if (*limit < size) stack.resize(static_cast<std::size_t>(*limit));
    } else if (-*limit < size) {
        stack.erase(stack.begin(), stack.end() + *limit);
    }
}

FutureCallGraph build(FutureBase& future, const AwaitedBy& awaited_by, const CallGraphOptions& options,
                      std::unordered_set<FutureBase*>& seen, unsigned depth) {
    FutureCallGraph graph;
    graph.future = Future<>(Ref<FutureBase>(&future));
    if (future.is_task()) {
        auto& task = static_cast<TaskBase&>(future);
        auto stack = stack_of(task);
        std::ranges::reverse(stack);
        limit_stack(stack, options.limit);
        for (const StackFrame& frame : stack) graph.call_stack.push_back({frame});
        if (const Waiter* waiter = task.waiting_on()) graph.waits_for = waiter->describe();
    }
    // Circles end here, and what many ways lead to is not multiplied.
    constexpr unsigned DEEPEST = 1000;  // as Python's recursion
    if (!seen.insert(&future).second || depth == DEEPEST) return graph;
    for (FutureBase* waiter : awaited_by.of(future))
        graph.awaited_by.push_back(build(*waiter, awaited_by, options, seen, depth + 1));
    return graph;
}

void append(std::string& text, const FutureCallGraph& graph, std::size_t level) {
    auto line = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
        text.append(4 * level, ' ');
        fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
        text += '\n';
    };
    const FutureBase& future = graph.future.state();
    const void* id = &future;
    if (future.is_task()) {
        line("* Task(name='{}', id={})", static_cast<const TaskBase&>(future).get_name(), id);
    } else {
        line("* Future(id={})", id);
    }
    if (!graph.call_stack.empty()) {
        line("  + Call stack:");
        for (const auto& [frame] : graph.call_stack)
            line("  |   File '{}', line {}, in async {}", frame.file, frame.line, frame.function);
    }
    if (!graph.waits_for.empty()) line("  + Waiting for: {}", graph.waits_for);
    if (!graph.awaited_by.empty()) {
        line("  + Awaited by:");
        for (const FutureCallGraph& waiter : graph.awaited_by) append(text, waiter, level + 1);
    }
}

}  // namespace

FutureCallGraph capture_call_graph(FutureBase& future, const CallGraphOptions& options) {
    AwaitedBy awaited_by(future.get_loop());
    std::unordered_set<FutureBase*> seen;
    return build(future, awaited_by, options, seen, 1);
}

std::string format_call_graph(const FutureCallGraph& graph) {
    std::string text;
    append(text, graph, 0);
    return text;
}

void write_call_graph(std::ostream* out, const std::string& text) { (out ? *out : std::cerr) << text; }

}  // namespace detail

std::optional<FutureCallGraph> capture_call_graph(CallGraphOptions options) {
    Task<> task = current_task();
    if (!task) return std::nullopt;
    return detail::capture_call_graph(task.state(), options);
}

std::string format_call_graph(CallGraphOptions options) {
    auto graph = capture_call_graph(options);
    return graph ? detail::format_call_graph(*graph) : std::string();
}

void print_call_graph(CallGraphOptions options) {
    detail::write_call_graph(nullptr, format_call_graph(options));
}
void print_call_graph(std::ostream& out, CallGraphOptions options) {
    detail::write_call_graph(&out, format_call_graph(options));
}

}  // namespace coil
