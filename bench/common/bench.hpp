#pragma once

#include <unistd.h>

#include <cstdio>
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
