#include "../common/asio.hpp"

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

[[gnu::noinline]] Awaitable<int> leaf(int i) { co_return i; }

Awaitable<long> call(long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum += co_await leaf(static_cast<int>(i));
    co_return sum;
}

Awaitable<> measure() {
    constexpr long COUNT = 20'000'000;
    co_await call(1000);
    bench::Measurement measurement;
    bench::keep(co_await call(COUNT));
    measurement.report("child_await", "call", COUNT);
}

int main() {
    asio::io_context io(1);
    asio::co_spawn(io, measure(), asio::detached);
    io.run();
}
