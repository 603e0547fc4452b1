#include "coil/detail/pool.hpp"

#include <atomic>
#include <mutex>
#include <utility>

namespace coil::detail {

constinit thread_local Pool pool{};

namespace {

using Block = Pool::Block;

/// A full magazine in the depot: its first block's memory, seen as a stack's node.
struct Stored {
    Block first;
    Stored* next;
};
static_assert(sizeof(Stored) <= Pool::STEP);

/// Full magazines that any thread may take. Lives as long as the process.
class Depot {
  public:
    Block* take(std::size_t index) {
        // ORDER: a guess; one that is out of date costs a call of operator new, or a look in vain.
        if (counts_[index].load(std::memory_order_relaxed) == 0) return nullptr;
        std::lock_guard lock(mutex_);
        Stored* top = stacks_[index];
        if (!top) return nullptr;
        stacks_[index] = top->next;
        counts_[index].fetch_sub(1, std::memory_order_relaxed);
        return &top->first;
    }
    /// False if enough are there.
    bool store(std::size_t index, Block* magazine) {
        std::lock_guard lock(mutex_);
        std::size_t bytes =
            counts_[index].load(std::memory_order_relaxed) * Pool::MAGAZINE * Pool::rounded(index);
        if (bytes > KEEP) return false;
        auto* stored = reinterpret_cast<Stored*>(magazine);  // free memory of at least a step's size
        stored->next = stacks_[index];
        stacks_[index] = stored;
        counts_[index].fetch_add(1, std::memory_order_relaxed);
        return true;
    }

  private:
    static constexpr std::size_t KEEP = std::size_t{32} << 20;  // bytes per size class
    std::mutex mutex_;
    Stored* stacks_[Pool::CLASSES] = {};
    std::atomic<std::size_t> counts_[Pool::CLASSES] = {};  // written under the mutex
};

Depot& depot() {
    static Depot* const everlasting = new Depot;  // threads may end after static objects have
    return *everlasting;
}

void free_list(Block* block) noexcept {
    while (block) ::operator delete(std::exchange(block, block->next));
}

/// Gives the thread's lists back when the thread ends.
struct Reaper {
    ~Reaper() {
        for (Pool::Class& own : pool.classes) {
            free_list(std::exchange(own.free, nullptr));
            free_list(std::exchange(own.spare, nullptr));
        }
    }
};

}  // namespace

void pool_register_thread() noexcept {
    static thread_local Reaper reaper;
    (void)reaper;
    pool.reaped = true;
}

void* pool_refill(std::size_t index) {
    Pool::Class& own = pool.classes[index];
    Block* magazine = std::exchange(own.spare, nullptr);
    if (!magazine) magazine = depot().take(index);
    if (!magazine) return ::operator new(Pool::rounded(index));
    own.free = magazine->next;
    return magazine;
}

void pool_store_magazine(std::size_t index) noexcept {
    Pool::Class& own = pool.classes[index];
    Block* full = std::exchange(own.spare, std::exchange(own.free, nullptr));
    if (full && !depot().store(index, full)) free_list(full);
}

}  // namespace coil::detail
