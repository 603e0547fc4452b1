#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "bench.h"

namespace bench {

/// Keeps a result alive without a store to memory on every operation.
template <class T>
inline void keep(T const& value) {
    asm volatile("" : : "g"(value) : "memory");
}

/// `count` offsets in nanoseconds, spread evenly over a minute; the same in every program.
inline std::vector<long> timer_offsets(std::size_t count) {
    std::mt19937_64 random(42);
    std::vector<long> offsets(count);
    for (long& offset : offsets) offset = static_cast<long>(random() % 60'000'000'000ull);
    return offsets;
}

inline std::vector<std::size_t> random_order(std::size_t count) {
    std::mt19937_64 random(7);
    std::vector<std::size_t> order(count);
    for (std::size_t i = 0; i < count; i++) order[i] = i;
    for (std::size_t i = count - 1; i > 0; i--) std::swap(order[i], order[random() % (i + 1)]);
    return order;
}

/// In another thread, until a loop that has nothing to do sleeps in the kernel.
inline void let_it_sleep() {
    timespec pause{.tv_sec = 0, .tv_nsec = 100'000};
    nanosleep(&pause, nullptr);
}

/// Of exactly so many values.
inline double median(std::vector<double> values, std::size_t count) {
    if (values.size() != count) std::abort();
    std::sort(values.begin(), values.end());
    return values[count / 2];
}

inline double resident_bytes() {
    long total = 0;
    long resident = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
        std::fclose(file);
    }
    return static_cast<double>(resident * sysconf(_SC_PAGESIZE));
}

}  // namespace bench
