#pragma once

// The frame allocator: free lists by size class for coroutine frames, task states and handles.
//
// A thread allocates from and frees to a list of its own, without synchronisation. A list that has grown to a magazine's length
// becomes the thread's spare; the spare before it goes to a depot shared by all threads, where a thread whose lists are empty
// looks before it asks operator new. So blocks that one thread allocates and another frees find their way back.
// (J. Bonwick, J. Adams: Magazines and Vmem, USENIX 2001.)
//
// Under a sanitizer nothing is recycled, so that it sees every use after free.

#include <cstddef>
#include <cstdint>
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
    static constexpr std::size_t CLASSES = 64;  // blocks up to 2 KiB; larger ones go to operator new
    static constexpr std::uint32_t MAGAZINE = 64;

    struct Block {
        Block* next;
        std::uint32_t depth;  // of the list that begins here
    };
    struct Class {
        Block* free;
        Block* spare;
    };
    Class classes[CLASSES];
    bool reaped;  // the end of the thread will empty the lists

    static constexpr std::size_t class_of(std::size_t size) { return (size - 1) / STEP; }
    static constexpr std::size_t rounded(std::size_t index) { return (index + 1) * STEP; }
};

// constinit and trivially destructible: no guard, no wrapper call; pool.cpp empties it at thread exit.
extern constinit thread_local Pool pool;

void* pool_refill(std::size_t index);
void pool_store_magazine(std::size_t index) noexcept;
void pool_register_thread() noexcept;

inline void* pool_allocate(std::size_t size) {
#ifndef COIL_POOL_OFF
    std::size_t index = Pool::class_of(size);
    if (index < Pool::CLASSES) {
        Pool::Class& own = pool.classes[index];
        if (Pool::Block* block = own.free) {
            own.free = block->next;
            return block;
        }
        return pool_refill(index);
    }
#endif
    return ::operator new(size);
}

inline void pool_deallocate(void* memory, [[maybe_unused]] std::size_t size) noexcept {
#ifndef COIL_POOL_OFF
    std::size_t index = Pool::class_of(size);
    if (index < Pool::CLASSES) {
        Pool::Class& own = pool.classes[index];
        auto* block = static_cast<Pool::Block*>(memory);
        block->next = own.free;
        block->depth = own.free ? own.free->depth + 1 : 1;
        own.free = block;
        if (!pool.reaped) [[unlikely]]
            pool_register_thread();
        if (block->depth >= Pool::MAGAZINE) pool_store_magazine(index);
        return;
    }
#endif
    ::operator delete(memory);
}

/// Base of what is allocated often: `new` and `delete` go through the pool.
struct Pooled {
    static void* operator new(std::size_t size) { return pool_allocate(size); }
    static void operator delete(void* memory, std::size_t size) noexcept { pool_deallocate(memory, size); }
    static void* operator new(std::size_t size, std::align_val_t align) {
        return ::operator new(size, align);
    }
    static void operator delete(void* memory, std::size_t, std::align_val_t align) noexcept {
        ::operator delete(memory, align);
    }
};

}  // namespace coil::detail
