#pragma once

// A 4-ary heap of deadlines with the index kept in the node, so cancelling is O(log n) and leaves nothing behind.
// The deadline lives in the array: finding the smallest of four children touches one cache line.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coil/detail/runnable.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

/// Where a deadline's owner sits in the heap. Unlinked by its owner before it dies.
struct Timer {
    static constexpr std::uint32_t NOT_SCHEDULED = ~std::uint32_t{0};

    explicit Timer(Runnable& target) noexcept : target_(&target) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    bool scheduled() const noexcept { return index_ != NOT_SCHEDULED; }

    Runnable* target_;  // goes to the ready queue when the deadline has come
    std::uint64_t order_ = 0;  // equal deadlines fire in the order of creation
    std::uint32_t index_ = NOT_SCHEDULED;
};

class TimerHeap {
  public:
    bool empty() const noexcept { return entries_.empty(); }
    std::size_t size() const noexcept { return entries_.size(); }
    TimePoint next() const noexcept { return entries_.front().when; }

    void add(TimePoint when, Timer& timer);
    void remove(Timer& timer) noexcept;
    /// Takes out the first one if it is due at `now`; null otherwise.
    Timer* pop_due(TimePoint now) noexcept;
    /// Takes out any one: for a loop that closes.
    Timer* pop_any() noexcept;

  private:
    struct Entry {
        TimePoint when;
        Timer* timer;
    };
    static bool before(const Entry& a, const Entry& b) noexcept {
        return a.when != b.when ? a.when < b.when : a.timer->order_ < b.timer->order_;
    }
    void place(std::size_t index, Entry entry) noexcept {
        entries_[index] = entry;
        entry.timer->index_ = static_cast<std::uint32_t>(index);
    }
    void sift_up(std::size_t index, Entry entry) noexcept;
    void sift_down(std::size_t index, Entry entry) noexcept;

    std::vector<Entry> entries_;
    std::uint64_t created_ = 0;
};

}  // namespace coil::detail
