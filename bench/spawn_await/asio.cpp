#include "../common/asio.hpp"

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

Awaitable<int> leaf(int i) { co_return i; }

Awaitable<long> spawn(long count) {
    auto executor = co_await asio::this_coro::executor;
    long sum = 0;
    for (long i = 0; i < count; i++)
        sum += co_await asio::co_spawn(executor, leaf(static_cast<int>(i)), asio::use_awaitable);
    co_return sum;
}

Awaitable<> measure() {
    constexpr long COUNT = 2'000'000;
    co_await spawn(1000);
    bench::Measurement measurement;
    bench::keep(co_await spawn(COUNT));
    measurement.report("spawn_await", "task", COUNT);
}

int main() {
    asio::io_context io(1);
    asio::co_spawn(io, measure(), asio::detached);
    io.run();
}
