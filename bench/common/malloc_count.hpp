// Counts every allocation of the process, whoever makes it. For one source file per program.
#pragma once

#include <cerrno>
#include <cstddef>
#include <string>

#include "bench.h"

namespace bench {

inline unsigned long mallocs = 0;

/// Reports two metrics per operation: the time and, as NAME_mallocs, the allocations since its construction.
class Measurement {
  public:
    void report(const std::string& name, const char* parameter, double operations) const {
        double took = now_ns() - start_;
        unsigned long allocated = mallocs - mallocs_;
        ::report(name.c_str(), parameter, took / operations);
        ::report((name + "_mallocs").c_str(), parameter, static_cast<double>(allocated) / operations);
    }

  private:
    unsigned long mallocs_ = mallocs;
    double start_ = now_ns();
};

}  // namespace bench

extern "C" {
// glibc's own entry points, so that ours need not look for the next malloc with dlsym (which allocates).
void* __libc_malloc(std::size_t) noexcept;
void* __libc_calloc(std::size_t, std::size_t) noexcept;
void* __libc_realloc(void*, std::size_t) noexcept;
void* __libc_memalign(std::size_t, std::size_t) noexcept;

void* malloc(std::size_t size) noexcept {
    bench::mallocs++;
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
    bench::mallocs++;
    return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) noexcept {
    bench::mallocs++;
    return __libc_realloc(block, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
    bench::mallocs++;
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
    *block = memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}
}
