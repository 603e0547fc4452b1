#include "coil/detail/timer_heap.hpp"

#include <algorithm>

namespace coil::detail {

namespace {
constexpr std::size_t CHILDREN = 4;
}

void TimerHeap::sift_up(std::size_t index, Entry entry) noexcept {
    while (index > 0) {
        std::size_t parent = (index - 1) / CHILDREN;
        if (!before(entry, entries_[parent])) break;
        place(index, entries_[parent]);
        index = parent;
    }
    place(index, entry);
}

void TimerHeap::sift_down(std::size_t index, Entry entry) noexcept {
    std::size_t size = entries_.size();
    for (;;) {
        std::size_t first = index * CHILDREN + 1;
        if (first >= size) break;
        std::size_t smallest = first;
        std::size_t end = std::min(first + CHILDREN, size);
        for (std::size_t child = first + 1; child < end; ++child) {
            if (before(entries_[child], entries_[smallest])) smallest = child;
        }
        if (!before(entries_[smallest], entry)) break;
        place(index, entries_[smallest]);
        index = smallest;
    }
    place(index, entry);
}

void TimerHeap::add(TimePoint when, Timer& timer) {
    timer.order_ = created_++;
    entries_.push_back({when, &timer});
    sift_up(entries_.size() - 1, {when, &timer});
}

void TimerHeap::remove(Timer& timer) noexcept {
    std::size_t index = timer.index_;
    timer.index_ = Timer::NOT_SCHEDULED;
    Entry last = entries_.back();
    entries_.pop_back();
    if (index == entries_.size()) return;
    if (index > 0 && before(last, entries_[(index - 1) / CHILDREN])) {
        sift_up(index, last);
    } else {
        sift_down(index, last);
    }
}

Timer* TimerHeap::pop_due(TimePoint now) noexcept {
    if (entries_.empty() || entries_.front().when > now) return nullptr;
    return pop_any();
}

Timer* TimerHeap::pop_any() noexcept {
    if (entries_.empty()) return nullptr;
    Timer* timer = entries_.front().timer;
    timer->index_ = Timer::NOT_SCHEDULED;
    Entry last = entries_.back();
    entries_.pop_back();
    if (!entries_.empty()) sift_down(0, last);
    return timer;
}

}  // namespace coil::detail
