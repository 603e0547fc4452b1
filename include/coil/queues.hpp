#pragma once

// Queue, PriorityQueue, LifoQueue: items handed from task to task, on one loop. Not thread-safe. Waiters are woken in order of
// arrival, but, as in asyncio, a newcomer may take the item or the slot first; the woken one then waits again. Once its storage
// has grown, a queue allocates nothing, waiting or not. A queue must outlive its waiters.

#include <coroutine>
#include <cstddef>
#include <utility>
#include <vector>

#include "coil/detail/described.hpp"
#include "coil/detail/operation.hpp"
#include "coil/detail/ring.hpp"
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
    std::size_t qsize() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    /// Never true of a queue without a bound.
    bool full() const noexcept { return maxsize_ > 0 && static_cast<std::ptrdiff_t>(size_) >= maxsize_; }
    bool is_shut_down() const noexcept { return shut_down_; }
    /// Waits until every item that was put has been marked done.
    auto join() noexcept { return finished_.wait(); }
    /// One taken item is worked off. ValueError if called more often than items were put.
    void task_done();

  protected:
    /// The wait of one put() or get(). It may be woken in vain, and then its caller waits again.
    class Wait final : public Operation<void> {
      public:
        Wait(QueueBase& queue, WaitQueue& list, const char* description) noexcept
            : waiter_(queue, list, description) {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> at) {
            waiter_.begin(at);
        }
        void await_resume() { waiter_.finish(); }

      private:
        template <class>
        friend struct LayoutOf;

        class Waiter final : public WaitNode {
          public:
            Waiter(QueueBase& queue, WaitQueue& list, const char* description) noexcept
                : WaitNode(description), queue_(queue), list_(list) {}
            template <class Promise>
            void begin(std::coroutine_handle<Promise> at) {
                queue_.bind("Queue");
                LeafWaiter::suspend(at);
                list_.push(*this);
            }
            /// Throws if cancelled, after passing on a wake-up that another waiter can use.
            void finish();
            std::string describe() const override;

          private:
            template <class>
            friend struct LayoutOf;

            QueueBase& queue_;
            WaitQueue& list_;
        };
        Waiter waiter_;
    };

    std::string describe_as(const char* kind) const;
    explicit QueueBase(std::ptrdiff_t maxsize) noexcept : maxsize_(maxsize) { finished_.set(); }

    Wait wait_for_item() noexcept { return Wait(*this, getters_, "Queue.get"); }
    Wait wait_for_slot() noexcept { return Wait(*this, putters_, "Queue.put"); }
    void check_put() const {
        if (shut_down_ || full()) throw_cannot_put();
    }
    void check_get() const {
        if (size_ == 0) throw_cannot_get();
    }
    void item_put() noexcept {
        ++size_;
        ++unfinished_;
        finished_.clear();
        getters_.wake_next();
    }
    void item_taken() noexcept {
        --size_;
        putters_.wake_next();
    }
    /// Nothing more may be put; `dropped` items count as done.
    void shut_down(std::size_t dropped) noexcept;

  private:
    template <class>
    friend struct LayoutOf;

    [[noreturn]] void throw_cannot_put() const;
    [[noreturn]] void throw_cannot_get() const;

    WaitQueue getters_;
    WaitQueue putters_;
    std::ptrdiff_t maxsize_;
    std::size_t size_ = 0;
    std::size_t unfinished_ = 0;
    bool shut_down_ = false;
    Event finished_;
};

/// A queue of items that `Items` puts in order: push(T&&), T take(), clear().
template <class T, class Items>
class QueueOf : public QueueBase {
  public:
    /// Waits while the queue is full. QueueShutDown after `shutdown()`.
    Coro<> put(T item) {
        while (!is_shut_down() && full()) co_await wait_for_slot();
        put_nowait(std::move(item));
    }
    /// Waits while the queue is empty. QueueShutDown once it is shut down and empty.
    Coro<T> get() {
        while (empty() && !is_shut_down()) co_await wait_for_item();
        co_return get_nowait();
    }
    /// QueueFull if there is no slot.
    void put_nowait(T item) {
        check_put();
        items_.push(std::move(item));
        item_put();
    }
    /// QueueEmpty if there is no item.
    T get_nowait() {
        check_get();
        T item = items_.take();
        item_taken();
        return item;
    }
    /// Ends the queue: puts throw QueueShutDown, gets do once it is empty. At once: what is in it is dropped and counts as
    /// done.
    void shutdown(bool immediate = false) {
        if (immediate) {
            std::size_t dropped = qsize();
            items_.clear();
            shut_down(dropped);
        } else {
            shut_down(0);
        }
    }

  protected:
    template <class... Order>
    explicit QueueOf(std::ptrdiff_t maxsize, Order... order)
        : QueueBase(maxsize), items_{std::move(order)...} {}

  private:
    Items items_;
};

template <class T>
struct FifoItems {
    void push(T&& item) { items.push_back(std::move(item)); }
    T take() {
        T item = std::move(items.front());
        items.pop_front();
        return item;
    }
    void clear() noexcept { items.clear(); }
    Ring<T> items;
};

template <class T>
struct LifoItems {
    void push(T&& item) { items.push_back(std::move(item)); }
    T take() {
        T item = std::move(items.back());
        items.pop_back();
        return item;
    }
    void clear() noexcept { items.clear(); }
    std::vector<T> items;
};

/// std::less<> without <functional>.
struct Less {
    using is_transparent = void;
    template <class A, class B>
    constexpr bool operator()(const A& a, const B& b) const {
        return a < b;
    }
};

/// A binary heap, smallest first. It makes the comparisons of CPython's heapq, so that items which compare equal come out in the
/// same order as there. All comparisons come before the first move: if one throws, the heap is as it was.
template <class T, class Compare>
struct HeapItems {
    void push(T&& item) {
        std::size_t place = items.size();
        while (place > 0 && compare(item, items[parent(place)])) place = parent(place);
        items.push_back(std::move(item));
        for (std::size_t i = items.size() - 1; i != place; i = parent(i))
            std::swap(items[i], items[parent(i)]);
    }
    /// The last item takes a place on the way from the first one down along the smaller children; those above it move up.
    T take() {
        std::size_t last = items.size() - 1;
        std::size_t place = 0;
        for (std::size_t child = 1; child < last; child = 2 * place + 1) {
            if (child + 1 < last && !compare(items[child], items[child + 1])) ++child;
            place = child;
        }
        while (place > 0 && compare(items[last], items[place])) place = parent(place);
        for (; last > 0; place = parent(place)) {
            std::swap(items[last], items[place]);
            if (place == 0) break;
        }
        T first = std::move(items.back());
        items.pop_back();
        return first;
    }
    void clear() noexcept { items.clear(); }
    static std::size_t parent(std::size_t index) noexcept { return (index - 1) / 2; }

    [[no_unique_address]] Compare compare{};
    std::vector<T> items{};
};

}  // namespace detail

/// First in, first out. `maxsize` of zero or less: no bound.
template <class T>
class Queue : public detail::QueueOf<T, detail::FifoItems<T>> {
  public:
    explicit Queue(std::ptrdiff_t maxsize = 0) : Queue::QueueOf(maxsize) {}
    /// In one line, see format.hpp.
    std::string describe() const { return this->describe_as("Queue"); }
};

/// The smallest item first, by `Compare`.
template <class T, class Compare = detail::Less>
class PriorityQueue : public detail::QueueOf<T, detail::HeapItems<T, Compare>> {
  public:
    explicit PriorityQueue(std::ptrdiff_t maxsize = 0, Compare compare = Compare())
        : PriorityQueue::QueueOf(maxsize, std::move(compare)) {}
    /// In one line, see format.hpp.
    std::string describe() const { return this->describe_as("PriorityQueue"); }
};

/// Last in, first out.
template <class T>
class LifoQueue : public detail::QueueOf<T, detail::LifoItems<T>> {
  public:
    explicit LifoQueue(std::ptrdiff_t maxsize = 0) : LifoQueue::QueueOf(maxsize) {}
    /// In one line, see format.hpp.
    std::string describe() const { return this->describe_as("LifoQueue"); }
};

template <class T>
inline constexpr bool detail::DESCRIBED<Queue<T>> = true;
template <class T, class Compare>
inline constexpr bool detail::DESCRIBED<PriorityQueue<T, Compare>> = true;
template <class T>
inline constexpr bool detail::DESCRIBED<LifoQueue<T>> = true;

}  // namespace coil
