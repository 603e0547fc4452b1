#pragma once

// What the ready queue holds: anything with a link and a function. A callback's handle, a task's next step and a timer
// in a coroutine's frame are all Runnables, so queueing one allocates nothing.

#include "coil/detail/pool.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

struct Runnable {
    enum class How { RUN, DISCARD };  // DISCARD: the loop is closed; release what the queue held, call nobody
    using Function = void (*)(Runnable&, How);

    explicit Runnable(Function function) noexcept : function_(function) {}
    Runnable(const Runnable&) = delete;
    Runnable& operator=(const Runnable&) = delete;

    Runnable* next_ = nullptr;
    Function function_;
};

/// FIFO, singly linked: a node in it is neither moved nor destroyed until it has been popped.
class ReadyQueue {
  public:
    bool empty() const noexcept { return head_ == nullptr; }
    Runnable* front() const noexcept { return head_; }
    Runnable* back() const noexcept { return tail_; }

    void push(Runnable& node) noexcept {
        node.next_ = nullptr;
        if (tail_) {
            tail_->next_ = &node;
        } else {
            head_ = &node;
        }
        tail_ = &node;
    }
    /// A chain of nodes already linked by `next_`, ending in a null.
    void splice(Runnable& first, Runnable& last) noexcept {
        if (tail_) {
            tail_->next_ = &first;
        } else {
            head_ = &first;
        }
        tail_ = &last;
    }
    Runnable& pop() noexcept {
        Runnable& node = *head_;
        head_ = node.next_;
        if (head_) {
            __builtin_prefetch(head_);  // a long queue is spread over memory
        } else {
            tail_ = nullptr;
        }
        return node;
    }

    /// Empties the queue; nobody is called.
    void discard() {
        while (!empty()) {
            Runnable& node = pop();
            node.function_(node, Runnable::How::DISCARD);
        }
    }

  private:
    template <class>
    friend struct LayoutOf;

    Runnable* head_ = nullptr;
    Runnable* tail_ = nullptr;
};

}  // namespace coil::detail
