#pragma once

// A FIFO in one block of memory that grows and is used again: what passes through it allocates nothing once warm.

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace coil::detail {

template <class T>
class Ring {
  public:
    Ring() = default;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() { clear(); }

    std::size_t size() const noexcept { return size_; }
    T& front() noexcept { return at(0); }
    void push_back(T&& value) {
        if (size_ == capacity_) grow();
        std::construct_at(&at(size_), std::move(value));
        ++size_;
    }
    void pop_front() noexcept {
        std::destroy_at(&front());
        begin_ = (begin_ + 1) & (capacity_ - 1);
        --size_;
    }
    void clear() noexcept {
        while (size_ > 0) pop_front();
    }

  private:
    union Slot {
        Slot() noexcept {}
        ~Slot() {}
        T value;
    };

    T& at(std::size_t index) noexcept { return slots_[(begin_ + index) & (capacity_ - 1)].value; }
    void grow() {
        Ring larger;
        larger.capacity_ = capacity_ == 0 ? 8 : 2 * capacity_;  // a power of two
        larger.slots_ = std::make_unique<Slot[]>(larger.capacity_);
        for (; larger.size_ < size_; ++larger.size_) {
            // If a copy throws, this ring is as it was.
            std::construct_at(&larger.at(larger.size_), std::move_if_noexcept(at(larger.size_)));
        }
        std::swap(slots_, larger.slots_);
        std::swap(capacity_, larger.capacity_);
        std::swap(begin_, larger.begin_);
    }

    std::unique_ptr<Slot[]> slots_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;
    std::size_t size_ = 0;
};

}  // namespace coil::detail
