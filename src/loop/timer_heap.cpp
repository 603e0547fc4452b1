#include "coil/detail/timer_heap.hpp"

#include <algorithm>

namespace coil::detail {

namespace {
constexpr std::size_t CHILDREN = 4;
constexpr std::size_t AHEAD = 16;  // how far ahead a pass over many timers fetches them
}  // namespace

void TimerHeap::sift_up(std::size_t index, Entry entry) noexcept {
    while (index > 0) {
        std::size_t parent = (index - 1) / CHILDREN;
        if (!before(entry, entries_[parent])) break;
        place(index, entries_[parent]);
        index = parent;
    }
    place(index, entry);
}

template <class Put>
void TimerHeap::sink(std::size_t index, Entry entry, Put put) noexcept {
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
        put(index, entries_[smallest]);
        index = smallest;
    }
    put(index, entry);
}

void TimerHeap::sift_down(std::size_t index, Entry entry) noexcept {
    sink(index, entry, [this](std::size_t at, Entry what) { place(at, what); });
}

void TimerHeap::add(TimePoint when, Timer& timer) {
    timer.order_ = created_++;
    Entry entry(when, timer);
    entries_.push_back(entry);
    sift_up(entries_.size() - 1, entry);
}

void TimerHeap::remove(Timer& timer) noexcept {
    std::size_t index = timer.index_;
    timer.index_ = Timer::NOT_SCHEDULED;
    if (index + 1 == entries_.size()) {  // a time-out that was taken back soon
        entries_.pop_back();
        return;
    }
    entries_[index].bury();
    ++buried_;
    if (index == 0) {
        drop_buried_top();
    } else if (buried_ * 2 > entries_.size()) {
        rebuild();
    }
}

void TimerHeap::drop_top() noexcept {
    Entry last = entries_.back();
    entries_.pop_back();
    if (!entries_.empty()) sift_down(0, last);
}

void TimerHeap::drop_buried_top() noexcept {
    while (!entries_.empty() && !entries_.front().timer()) {
        drop_top();
        --buried_;
    }
}

/// Sweeps out the tombstones and makes a heap of what is left. Moves entries alone at first: a timer is written to once, when its
/// entry has come to rest, in an order that can be fetched ahead.
void TimerHeap::rebuild() noexcept {
    std::erase_if(entries_, [](const Entry& entry) { return !entry.timer(); });
    buried_ = 0;
    std::size_t size = entries_.size();
    for (std::size_t i = (size + CHILDREN - 2) / CHILDREN; i-- > 0;)
        sink(i, entries_[i], [this](std::size_t index, Entry entry) { entries_[index] = entry; });
    for (std::size_t i = 0; i < size; ++i) {
        if (i + AHEAD < size) __builtin_prefetch(entries_[i + AHEAD].timer(), 1);
        place(i, entries_[i]);
    }
}

void TimerHeap::pop_due(TimePoint now, ReadyQueue& queue) {
    constexpr std::size_t FEW = 32;
    std::size_t popped = 0;
    while (!entries_.empty() && entries_.front().when <= now) {
        if (++popped == FEW && count_due(now, entries_.size() / CHILDREN) >= entries_.size() / CHILDREN)
            return pop_many_due(now, queue);
        Timer* timer = entries_.front().timer();
        timer->index_ = Timer::NOT_SCHEDULED;
        queue.push(*timer);
        drop_top();
        drop_buried_top();
    }
}

/// How many are due; stops counting at `enough`. Only what is due is looked at, and its children.
std::size_t TimerHeap::count_due(TimePoint now, std::size_t enough) const {
    std::vector<std::size_t> due{0};
    for (std::size_t next = 0; next < due.size() && due.size() < enough; ++next) {
        std::size_t first = due[next] * CHILDREN + 1;
        for (std::size_t child = first; child < std::min(first + CHILDREN, entries_.size()); ++child) {
            if (entries_[child].when <= now) due.push_back(child);
        }
    }
    return due.size();
}

/// A good part of the heap is due: sorting that and rebuilding the rest beats taking the first one out again and again.
void TimerHeap::pop_many_due(TimePoint now, ReadyQueue& queue) {
    auto due = std::partition(entries_.begin(), entries_.end(),
                              [now](const Entry& entry) { return entry.when > now; });
    std::sort(due, entries_.end(), before);
    for (auto entry = due; entry != entries_.end(); ++entry) {
        if (entries_.end() - entry > std::ptrdiff_t{AHEAD}) __builtin_prefetch(entry[AHEAD].timer(), 1);
        if (Timer* timer = entry->timer()) {
            timer->index_ = Timer::NOT_SCHEDULED;
            queue.push(*timer);
        }
    }
    entries_.erase(due, entries_.end());
    rebuild();
}

Timer* TimerHeap::pop_any() noexcept {
    while (!entries_.empty()) {
        Timer* timer = entries_.back().timer();
        entries_.pop_back();
        if (timer) {
            timer->index_ = Timer::NOT_SCHEDULED;
            return timer;
        }
    }
    buried_ = 0;
    return nullptr;
}

}  // namespace coil::detail
