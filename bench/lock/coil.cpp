// A lock that is free, acquired and released; and a lock that two tasks take turns at, each holding it for a sleep(0).
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using namespace std::chrono_literals;

coil::Coro<> take_free_lock(coil::Lock& lock, long count) {
    for (long i = 0; i < count; i++) {
        co_await lock.acquire();
        bench::keep(i);
        lock.release();
    }
}

coil::Coro<> hold_across_turns(coil::Lock& lock, long count) {
    for (long i = 0; i < count; i++) {
        co_await lock.acquire();
        co_await coil::sleep(0s);
        lock.release();
    }
}

coil::Coro<> hand_over(coil::Lock& lock, long count) {
    co_await coil::gather(hold_across_turns(lock, count / 2), hold_across_turns(lock, count / 2));
}

coil::Coro<> measure() {
    constexpr long FREE = 50'000'000;
    constexpr long HANDED_OVER = 5'000'000;
    coil::Lock lock;
    co_await take_free_lock(lock, 1000);
    bench::Measurement free;
    co_await take_free_lock(lock, FREE);
    free.report("lock", "uncontended", FREE);

    co_await hand_over(lock, 1000);
    bench::Measurement handed_over;
    co_await hand_over(lock, HANDED_OVER);
    handed_over.report("lock", "handed_over", HANDED_OVER);
}

int main() { coil::run(measure()); }
