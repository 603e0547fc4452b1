#pragma once

// What is current in this thread: set and restored around every callback and every step of a task.

#include <coroutine>

#include "coil/fwd.hpp"

namespace coil::detail {

class RunWatch;
class TaskBase;
struct ContextSlot;

struct ThreadState {
    EventLoop* loop;       // the loop that runs in this thread
    TaskBase* task;        // the task whose step runs now
    ContextSlot* context;  // null: the thread's own, see current_context()
    void* transfer;        // where compilers without a reliable tail call put the coroutine to go on with
    RunWatch* run_watch;   // of a loop that is in debug mode or traced
};

extern constinit thread_local ThreadState thread_state;

}  // namespace coil::detail
