#include "coil/detail/pool.hpp"

namespace coil::detail {

constinit thread_local Pool pool{};

namespace {

/// Gives the thread's lists back when the thread ends. Frees after that go straight to operator delete.
struct Reaper {
    bool alive = true;
    ~Reaper() {
        alive = false;
        for (std::size_t i = 0; i < Pool::CLASSES; ++i) {
            pool.room[i] = 0;
            while (Pool::Block* block = pool.free[i]) {
                pool.free[i] = block->next;
                ::operator delete(block);
            }
        }
    }
};

thread_local bool initialised = false;

void initialise() {
    static thread_local Reaper reaper;
    (void)reaper;
    initialised = true;
    for (std::size_t i = 0; i < Pool::CLASSES; ++i) pool.room[i] = Pool::KEEP / static_cast<unsigned>(Pool::rounded(i));
}

}  // namespace

void* pool_refill(std::size_t index) { return ::operator new(Pool::rounded(index)); }

void pool_keep(void* block, std::size_t index) noexcept {
    if (initialised) {  // the list is full, or the thread is ending
        ::operator delete(block);
        return;
    }
    initialise();
    pool_deallocate(block, Pool::rounded(index));
}

}  // namespace coil::detail
