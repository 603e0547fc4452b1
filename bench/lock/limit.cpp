#include "../common/limit.hpp"

#include "../common/bench.hpp"

class Lock {
    struct Acquire : limit::Runnable {
        explicit Acquire(Lock& lock) noexcept : lock(lock) {}
        bool await_ready() const noexcept { return !std::exchange(lock.held_, true); }
        void await_suspend(std::coroutine_handle<> waiter) noexcept {
            coroutine = waiter;
            lock.waiting_.push(this);
        }
        void await_resume() const noexcept {}
        Lock& lock;
    };

  public:
    Acquire acquire() noexcept { return Acquire(*this); }
    /// Hands it to the first who waits.
    void release() noexcept {
        if (limit::Runnable* next = waiting_.pop()) {
            limit::ready.push(next);
        } else {
            held_ = false;
        }
    }

  private:
    limit::ReadyQueue waiting_;
    bool held_ = false;
};

limit::Detached take_free_lock(Lock& lock, long count) {
    for (long i = 0; i < count; i++) {
        co_await lock.acquire();
        bench::keep(i);
        lock.release();
    }
}

limit::Detached hold_across_turns(Lock& lock, long count) {
    for (long i = 0; i < count; i++) {
        co_await lock.acquire();
        co_await limit::Sleep0{};
        lock.release();
    }
}

int main() {
    constexpr long FREE = 100'000'000;
    constexpr long HANDED_OVER = 20'000'000;
    Lock lock;
    double start = now_ns();
    take_free_lock(lock, FREE);
    report("lock", "uncontended", (now_ns() - start) / FREE);

    start = now_ns();
    hold_across_turns(lock, HANDED_OVER / 2);
    hold_across_turns(lock, HANDED_OVER / 2);
    limit::ready.run();
    report("lock", "handed_over", (now_ns() - start) / HANDED_OVER);
}
