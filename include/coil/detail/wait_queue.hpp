#pragma once

// Tasks that wait for a lock, a permit, an item: a list of nodes in their frames, oldest first. As in asyncio, a node stays in
// the list after it was woken or called off, until its task goes on: that is what keeps newcomers from overtaking.

#include <cstddef>
#include <string>

#include "coil/detail/list.hpp"
#include "coil/detail/task_base.hpp"

namespace coil::detail {

class WaitNode : public LeafWaiter, public ListNode {
  public:
    explicit WaitNode(const char* description) noexcept : description_(description) {}
    std::string describe() const override { return description_; }

  protected:
    /// First thing after resumption. False: what was waited for has been destroyed meanwhile, and must not be touched.
    bool leave_queue() noexcept {
        if (!linked()) return false;
        unlink();
        return true;
    }
    [[noreturn]] void throw_destroyed() const;

    ~WaitNode() {
        if (linked()) unlink();
    }

    const char* description_;
};

class WaitQueue {
  public:
    /// Nobody waits, but for those whose wait was called off.
    bool idle() const noexcept {
        for (WaitNode* node = nodes_.front(); node; node = nodes_.after(*node)) {
            if (!node->wait_cancelled()) return false;
        }
        return true;
    }
    bool empty() const noexcept { return nodes_.empty(); }
    std::size_t size() const noexcept {
        std::size_t count = 0;
        for (WaitNode* node = nodes_.front(); node; node = nodes_.after(*node)) ++count;
        return count;
    }
    void push(WaitNode& node) noexcept { nodes_.push_back(node); }
    WaitNode* front() const noexcept { return nodes_.front(); }
    /// Wakes the first one that still waits; false if there is none.
    bool wake_next() noexcept {
        for (WaitNode* node = nodes_.front(); node; node = nodes_.after(*node)) {
            if (node->pending()) {
                node->wake();
                return true;
            }
        }
        return false;
    }
    void wake_all() noexcept {
        for (WaitNode* node = nodes_.front(); node; node = nodes_.after(*node)) {
            if (node->pending()) node->wake();
        }
    }

  private:
    List<WaitNode> nodes_;
};

/// A primitive belongs to the loop of its first wait.
class LoopBound {
  protected:
    void bind(const char* name) {
        if (loop_ == thread_state.loop) return;
        if (loop_) throw_other_loop(name);
        loop_ = thread_state.loop;
    }

  private:
    [[noreturn]] static void throw_other_loop(const char* name);
    const EventLoop* loop_ = nullptr;  // compared, never used
};

}  // namespace coil::detail
