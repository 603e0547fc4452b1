// co_await a child coroutine that does not suspend.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

[[gnu::noinline]] coil::Coro<int> leaf(int i) { co_return i; }

coil::Coro<long> call(long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum += co_await leaf(static_cast<int>(i));
    co_return sum;
}

coil::Coro<> measure() {
    constexpr long COUNT = 20'000'000;
    co_await call(1000);
    bench::Measurement measurement;
    bench::keep(co_await call(COUNT));
    measurement.report("child_await", "call", COUNT);
}

int main() { coil::run(measure()); }
