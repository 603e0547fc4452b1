// Start a task and await its result.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

coil::Coro<int> leaf(int i) { co_return i; }

coil::Coro<long> spawn(long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum += co_await coil::create_task(leaf(static_cast<int>(i)));
    co_return sum;
}

coil::Coro<> measure() {
    constexpr long COUNT = 5'000'000;
    co_await spawn(1000);
    unsigned long mallocs = bench::mallocs;
    double start = now_ns();
    bench::keep(co_await spawn(COUNT));
    report("spawn_await", "task", (now_ns() - start) / COUNT);
    report("spawn_await_mallocs", "task", static_cast<double>(bench::mallocs - mallocs) / COUNT);
}

int main() { coil::run(measure()); }
