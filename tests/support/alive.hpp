#pragma once

// Counting what is alive, to find what leaks.

#include <atomic>
#include <cstddef>
#include <utility>

namespace support {

/// An object in a frame, a callback or a result: `Alive::count()` says how many there are in the process.
class Alive {
  public:
    Alive() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    Alive(const Alive&) noexcept : Alive() {}
    Alive& operator=(const Alive&) noexcept = default;
    ~Alive() { count_.fetch_sub(1, std::memory_order_relaxed); }

    static long count() noexcept { return count_.load(std::memory_order_relaxed); }

  private:
    static inline std::atomic<long> count_{0};
};

/// A value that can only be moved.
struct MoveOnly {
    explicit MoveOnly(int number) : value(number) {}
    MoveOnly(MoveOnly&& other) noexcept : value(std::exchange(other.value, -1)) {}
    MoveOnly& operator=(MoveOnly&& other) noexcept {
        value = std::exchange(other.value, -1);
        return *this;
    }
    int value;  // -1 once moved from
};

/// Descriptors that this process has open.
std::size_t open_fds();

}  // namespace support
