#pragma once

// The loops and tasks of a program, as its memory shows them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/coil/memory.hpp"

namespace coil::tools {

struct Frame {
    std::string function;  // with its parameters
    std::string file;
    unsigned line = 0;
};

struct TaskView {
    Address id = 0;
    std::string name;
    std::string state;          // "running", "ready", "waiting"
    std::optional<double> age;  // seconds; of a core file nobody knows
    std::vector<Frame> stack;   // innermost first
    std::optional<Frame> created_at;
    std::optional<int> descriptor;    // that it waits for
    std::string waits_for;            // "Lock.acquire, held by Task 'x'"
    std::vector<Address> held_up_by;  // tasks that hold what it waits for
    std::vector<Address> awaited_by;  // tasks
};

struct LoopView {
    Address id = 0;
    pid_t thread = 0;
    bool running = false;
    std::vector<TaskView> tasks;
};

struct Snapshot {
    std::string of;
    std::vector<LoopView> loops;
};

/// Stops the process while it reads. Failure if it is no program with coil, or with another version of it.
Snapshot snapshot_of_process(pid_t pid);
Snapshot snapshot_of_core(const std::string& path);

/// The tasks of each circle in which everybody waits for the next: for it to end, or to let go of a lock.
std::vector<std::vector<const TaskView*>> deadlocks(const LoopView& loop);

/// Of a part of coil that programs do not call by name.
bool is_coils_own(const Frame& frame);
/// "worker" for "coil::Coro<> worker(Queue &, int)", "QueueOf::get" for a template's.
std::string short_function(const std::string& function);

}  // namespace coil::tools
