#pragma once

#include "coil/coroutines.hpp"
#include "coil/detail/wait_queue.hpp"

namespace coil::detail {

/// Until the queue is woken. Who stops waiting does not end the waits of others.
class QueueWait final : public WaitNode, public OperationTag {
  public:
    QueueWait(WaitQueue& queue, const char* description) noexcept : WaitNode(description), queue_(queue) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        queue_.push(*this);
    }
    void await_resume() {
        leave_queue();
        throw_if_cancelled();
    }

  private:
    WaitQueue& queue_;
};

}  // namespace coil::detail
