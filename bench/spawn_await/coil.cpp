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
    bench::Measurement measurement;
    bench::keep(co_await spawn(COUNT));
    measurement.report("spawn_await", "task", COUNT);
}

int main() { coil::run(measure()); }
