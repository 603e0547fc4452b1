#pragma once

// Who awaits whom: the chain of awaits below a task, and above it those who wait for its end, across tasks, through gather,
// wait, groups and shields. Works in every build; costs nothing until it is asked.

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "coil/futures.hpp"
#include "coil/stacks.hpp"

namespace coil {

/// One coroutine of a call stack.
struct FrameCallGraphEntry {
    StackFrame frame;
};

/// A future or task at one moment. Belongs to the loop's thread, as the future does.
struct FutureCallGraph {
    Future<> future;
    std::vector<FrameCallGraphEntry> call_stack;  // of a task: its coroutines, innermost first
    std::string waits_for;                    // of a suspended task: "sleep(1s)", "Lock.acquire"; else empty
    std::vector<FutureCallGraph> awaited_by;  // one that stands in the graph already has none here
};

struct CallGraphOptions {
    /// How many entries of each call stack: the innermost ones; the outermost if negative. Nothing: all.
    std::optional<std::ptrdiff_t> limit{};
};

namespace detail {
FutureCallGraph capture_call_graph(FutureBase& future, const CallGraphOptions& options);
std::string format_call_graph(const FutureCallGraph& graph);
void add_awaited(FutureBase& future, FutureBase& waiter);           // in futures.cpp
void discard_awaited(FutureBase& future, FutureBase& waiter);       // the same
void write_call_graph(std::ostream* out, const std::string& text);  // null: std::cerr
}  // namespace detail

/// The graph of a future or task of this thread's loop.
template <class T>
std::optional<FutureCallGraph> capture_call_graph(const Future<T>& future, CallGraphOptions options = {}) {
    return detail::capture_call_graph(future.state(), options);
}
/// Of the current task; nothing outside of one. RuntimeError without a running loop.
std::optional<FutureCallGraph> capture_call_graph(CallGraphOptions options = {});

/// As text, a tree:
///     * Task(name='fetch', id=0x55d0c8f3a2c0)
///       + Call stack:
///       |   File 'fetch.cpp', line 12, in async coil::Coro<> read_page()
///       + Waiting for: sleep(1s)
///       + Awaited by:
///         * Task(name='Task-1', id=0x55d0c8f39e40)
template <class T>
std::string format_call_graph(const Future<T>& future, CallGraphOptions options = {}) {
    return detail::format_call_graph(detail::capture_call_graph(future.state(), options));
}
/// Of the current task; empty outside of one. RuntimeError without a running loop.
std::string format_call_graph(CallGraphOptions options = {});

/// For waits of your own making, that coil cannot see: from now on, until it is done, `waiter` waits for `future`. Each waits for
/// another one once.
template <class T, class U>
void future_add_to_awaited_by(const Future<T>& future, const Future<U>& waiter) {
    detail::add_awaited(future.state(), waiter.state());
}
/// No longer.
template <class T, class U>
void future_discard_from_awaited_by(const Future<T>& future, const Future<U>& waiter) {
    detail::discard_awaited(future.state(), waiter.state());
}

/// The same, printed.
template <class T>
void print_call_graph(const Future<T>& future, CallGraphOptions options = {}) {
    detail::write_call_graph(nullptr, format_call_graph(future, options));
}
template <class T>
void print_call_graph(const Future<T>& future, std::ostream& out, CallGraphOptions options = {}) {
    detail::write_call_graph(&out, format_call_graph(future, options));
}
void print_call_graph(CallGraphOptions options = {});
void print_call_graph(std::ostream& out, CallGraphOptions options = {});

}  // namespace coil
