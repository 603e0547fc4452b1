#pragma once

// Queue: items handed from task to task, on one loop. Waiters are woken in order of arrival, but, as in asyncio, a newcomer
// may take the item or the slot first; the woken one then waits again.

#include <coroutine>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "coil/detail/operation.hpp"
#include "coil/detail/wait_queue.hpp"
#include "coil/exceptions.hpp"
#include "coil/locks.hpp"

namespace coil {

namespace detail {

/// A queue without its items: who waits for what, and how much work is unfinished.
class QueueBase : LoopBound {
  public:
    QueueBase(const QueueBase&) = delete;
    QueueBase& operator=(const QueueBase&) = delete;

    std::ptrdiff_t maxsize() const noexcept { return maxsize_; }
    bool is_shut_down() const noexcept { return shut_down_; }
    /// Waits until every item that was put has been marked done.
    auto join() noexcept { return finished_.wait(); }
    /// One taken item is worked off. ValueError if called more often than items were put.
    void task_done();

    /// The wait of one put() or get(). It may be woken in vain, and then waits again.
    class Waiter final : public WaitNode {
      public:
        Waiter(QueueBase& queue, WaitQueue& list, const char* description) noexcept
            : WaitNode(description), queue_(&queue), list_(&list) {}
        template <class Promise>
        void begin(std::coroutine_handle<Promise> at) {
            queue_->bind("Queue");
            LeafWaiter::suspend(at);
            list_->push(*this);
        }
        /// Throws if cancelled, after passing on a wake-up that `usable_by_others()` says another waiter can use.
        template <class F>
        void finish(F usable_by_others) {
            bool exists = leave_queue();
            if (cancellation_due()) {
                if (exists && woken() && usable_by_others()) list_->wake_next();
                throw_cancelled();
            }
            if (!exists) throw_destroyed();
        }

      private:
        QueueBase* queue_;
        WaitQueue* list_;
    };

  protected:
    explicit QueueBase(std::ptrdiff_t maxsize) noexcept : maxsize_(maxsize) { finished_.set(); }

    void item_put() noexcept {
        ++unfinished_;
        finished_.clear();
        getters_.wake_next();
    }
    void item_taken() noexcept { putters_.wake_next(); }
    void items_dropped(std::size_t count) noexcept;
    void wake_everybody() noexcept;

    WaitQueue getters_;
    WaitQueue putters_;
    std::ptrdiff_t maxsize_;
    bool shut_down_ = false;

  private:
    std::size_t unfinished_ = 0;
    Event finished_;
};

}  // namespace detail

/// First in, first out. `maxsize` of zero or less: no bound. Must outlive its waiters.
template <class T>
class Queue : public detail::QueueBase {
  public:
    explicit Queue(std::ptrdiff_t maxsize = 0) noexcept : QueueBase(maxsize) {}

    std::size_t qsize() const noexcept { return items_.size(); }
    bool empty() const noexcept { return items_.empty(); }
    bool full() const noexcept {
        return maxsize_ > 0 && static_cast<std::ptrdiff_t>(items_.size()) >= maxsize_;
    }

    /// Waits while the queue is full. QueueShutDown after `shutdown()`.
    Coro<> put(T item) {
        while (!shut_down_ && full()) {
            PutWait wait(*this);
            co_await std::move(wait);
        }
        put_nowait(std::move(item));
    }
    /// Waits while the queue is empty. QueueShutDown once it is shut down and empty.
    Coro<T> get() {
        while (items_.empty()) {
            if (shut_down_) throw QueueShutDown();
            GetWait wait(*this);
            co_await std::move(wait);
        }
        co_return get_nowait();
    }
    /// QueueFull if there is no slot.
    void put_nowait(T item) {
        if (shut_down_) throw QueueShutDown();
        if (full()) throw QueueFull();
        items_.push_back(std::move(item));
        item_put();
    }
    /// QueueEmpty if there is no item.
    T get_nowait() {
        if (items_.empty()) {
            if (shut_down_) throw QueueShutDown();
            throw QueueEmpty();
        }
        T item = std::move(items_.front());
        items_.pop_front();
        item_taken();
        return item;
    }
    /// Ends the queue: puts throw QueueShutDown, gets do once it is empty. At once: what is in it is dropped and counts as
    /// done.
    void shutdown(bool immediate = false) {
        shut_down_ = true;
        if (immediate) {
            std::size_t dropped = items_.size();
            items_.clear();
            items_dropped(dropped);
        }
        wake_everybody();
    }

  private:
    class PutWait : public detail::Operation<void> {
      public:
        explicit PutWait(Queue& queue) noexcept
            : queue_(queue), waiter_(queue, queue.putters_, "Queue.put") {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> at) {
            waiter_.begin(at);
        }
        void await_resume() {
            waiter_.finish([this] { return !queue_.full(); });
        }

      private:
        Queue& queue_;
        Waiter waiter_;
    };
    class GetWait : public detail::Operation<void> {
      public:
        explicit GetWait(Queue& queue) noexcept
            : queue_(queue), waiter_(queue, queue.getters_, "Queue.get") {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> at) {
            waiter_.begin(at);
        }
        void await_resume() {
            waiter_.finish([this] { return !queue_.empty(); });
        }

      private:
        Queue& queue_;
        Waiter waiter_;
    };

    std::deque<T> items_;
};

}  // namespace coil
