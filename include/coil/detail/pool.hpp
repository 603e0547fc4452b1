#pragma once

// The frame allocator: thread-local free lists by size class for coroutine frames, task states and handles.
// Blocks come from operator new one by one and may be freed on any thread: they then join that thread's lists.
// Under a sanitizer nothing is recycled, so that it sees every use after free.

#include <cstddef>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COIL_POOL_OFF 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define COIL_POOL_OFF 1
#endif
#endif

namespace coil::detail {

struct Pool {
    static constexpr std::size_t STEP = 32;
    static constexpr std::size_t CLASSES = 64;          // blocks up to 2 KiB; larger ones go to operator new
    static constexpr unsigned KEEP = 8u << 20;          // bytes kept per class and thread

    struct Block {
        Block* next;
    };
    Block* free[CLASSES];
    unsigned room[CLASSES];  // how many more blocks the class may keep; set when the thread first frees one

    static constexpr std::size_t class_of(std::size_t size) { return (size - 1) / STEP; }
    static constexpr std::size_t rounded(std::size_t index) { return (index + 1) * STEP; }
};

// constinit and trivially destructible: no guard, no wrapper call; a reaper in pool.cpp empties it at thread exit.
extern constinit thread_local Pool pool;

void* pool_refill(std::size_t index);
void pool_keep(void* block, std::size_t index) noexcept;

inline void* pool_allocate(std::size_t size) {
#ifndef COIL_POOL_OFF
    std::size_t index = Pool::class_of(size);
    if (index < Pool::CLASSES) {
        if (Pool::Block* block = pool.free[index]) {
            pool.free[index] = block->next;
            ++pool.room[index];
            return block;
        }
        return pool_refill(index);
    }
#endif
    return ::operator new(size);
}

inline void pool_deallocate(void* block, [[maybe_unused]] std::size_t size) noexcept {
#ifndef COIL_POOL_OFF
    std::size_t index = Pool::class_of(size);
    if (index < Pool::CLASSES) {
        if (pool.room[index] > 0) {
            --pool.room[index];
            auto* kept = static_cast<Pool::Block*>(block);
            kept->next = pool.free[index];
            pool.free[index] = kept;
            return;
        }
        return pool_keep(block, index);
    }
#endif
    ::operator delete(block);
}

/// Base of what is allocated often: `new` and `delete` go through the pool.
struct Pooled {
    static void* operator new(std::size_t size) { return pool_allocate(size); }
    static void operator delete(void* block, std::size_t size) noexcept { pool_deallocate(block, size); }
    static void* operator new(std::size_t size, std::align_val_t align) { return ::operator new(size, align); }
    static void operator delete(void* block, std::size_t, std::align_val_t align) noexcept {
        ::operator delete(block, align);
    }
};

}  // namespace coil::detail
