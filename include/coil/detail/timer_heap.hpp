#pragma once

// Deadlines: a 4-ary heap of {deadline, timer} with the index kept in the timer. The deadline lives in the array, so finding the
// smallest of four children touches one cache line.
//
// A cancelled timer leaves a tombstone: its entry keeps deadline and order, and the order of the heap with it, but refers to
// nothing. So cancelling touches one entry; tombstones go when they reach the top, or all at once when they are the majority.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coil/detail/runnable.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

/// A runnable that a deadline puts into the ready queue. Removed by its owner before it dies.
struct Timer : Runnable {
    static constexpr std::uint32_t NOT_SCHEDULED = ~std::uint32_t{0};

    explicit Timer(Function function) noexcept : Runnable(function) {}

    bool scheduled() const noexcept { return index_ != NOT_SCHEDULED; }

    std::uint32_t index_ = NOT_SCHEDULED;  // its place in the heap
    std::uint32_t order_;  // equal deadlines fire in the order of creation; set when scheduled
};

class TimerHeap {
  public:
    bool empty() const noexcept { return entries_.empty(); }
    /// The first deadline.
    TimePoint next() const noexcept { return entries_.front().when; }

    /// Of a scheduled one.
    TimePoint deadline(const Timer& timer) const noexcept { return entries_[timer.index_].when; }

    void add(TimePoint when, Timer& timer);
    void remove(Timer& timer) noexcept;
    /// Moves all that are due at `now` to the queue, by deadline, then by order of creation.
    void pop_due(TimePoint now, ReadyQueue& queue);
    /// Takes out any one, null if there is none: for a loop that closes.
    Timer* pop_any() noexcept;

  private:
    template <class>
    friend struct LayoutOf;

    // The top is never a tombstone, and fewer than half of the entries are.
    class Entry {
      public:
        Entry(TimePoint deadline, Timer& timer) noexcept
            : when(deadline), link_(reinterpret_cast<std::uintptr_t>(&timer)) {}
        TimePoint when;

        Timer* timer() const noexcept {  // null: a tombstone
            return link_ & 1 ? nullptr : reinterpret_cast<Timer*>(link_);
        }
        std::uint32_t order() const noexcept {
            Timer* own = timer();
            return own ? own->order_ : static_cast<std::uint32_t>(link_ >> 1);
        }
        void bury() noexcept { link_ = (std::uintptr_t{order()} << 1) | 1; }

      private:
        std::uintptr_t link_;  // the timer's address, or an odd number: its order
    };
    static bool before(const Entry& a, const Entry& b) noexcept {
        if (a.when != b.when) return a.when < b.when;
        // The counter may wrap: two timers with one deadline were made less than 2^31 timers apart.
        return static_cast<std::int32_t>(a.order() - b.order()) < 0;
    }
    void place(std::size_t index, Entry entry) noexcept {
        entries_[index] = entry;
        if (Timer* timer = entry.timer()) timer->index_ = static_cast<std::uint32_t>(index);
    }
    void sift_up(std::size_t index, Entry entry) noexcept;
    template <class Put>
    void sink(std::size_t index, Entry entry, Put put) noexcept;
    void sift_down(std::size_t index, Entry entry) noexcept;
    void drop_top() noexcept;
    void drop_buried_top() noexcept;
    void rebuild() noexcept;
    std::size_t count_due(TimePoint now, std::size_t enough) const;
    void pop_many_due(TimePoint now, ReadyQueue& queue);

    std::vector<Entry> entries_;
    std::size_t buried_ = 0;
    std::uint32_t created_ = 0;
};

}  // namespace coil::detail
