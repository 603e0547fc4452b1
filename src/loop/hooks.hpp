#pragma once

// What layers above ask the loop to call. Each sets its own, once, when the program starts.

#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include "coil/detail/runnable.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

struct LoopHooks {
    /// io: signals that have come (bit n-1 for signal n). Gives those that have a handler.
    std::uint64_t (*signals)(EventLoop& loop, std::uint64_t bits) = [](EventLoop&, std::uint64_t) {
        return std::uint64_t{0};
    };
    /// core: SIGINTs have come and have no handler; a Runner that listens may throw out of the loop.
    void (*interrupt)(EventLoop& loop, unsigned count) = nullptr;
    /// io: a loop that had signal handlers closes; give back what is the process's.
    void (*closing)(EventLoop& loop) = nullptr;
    /// core: the loop object goes; so do the tasks that are still pending.
    void (*destroy_tasks)(EventLoop& loop) = nullptr;
    /// sync: EventLoop::shutdown_default_executor(). Null: there was never one, and a program without executors links none.
    Coro<> (*shutdown_default_executor)(EventLoop& loop, std::optional<Duration> timeout) = nullptr;
    /// core: the exception that is reported, with its traceback.
    std::string (*format_exception)(const ExceptionContext& context) = nullptr;
    /// core: the lines of the running task's coroutines, outermost first; the last is the one that was passed last.
    std::vector<std::source_location> (*running_lines)() = [] { return std::vector<std::source_location>(); };
    /// core: what runs by this queue function, of those that do not describe themselves; null for others.
    const char* (*name_run)(Runnable::Function function) = [](Runnable::Function) -> const
        char* { return nullptr; };
};

extern constinit LoopHooks loop_hooks;

}  // namespace coil::detail
