#include "../common/asio.hpp"

#include <boost/asio/experimental/parallel_group.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

constexpr int CHILDREN = 100;

Awaitable<> child() { co_await asio::post(asio::use_awaitable); }

Awaitable<> gather_batches(int batches) {
    auto executor = co_await asio::this_coro::executor;
    auto start_child = [executor] { return asio::co_spawn(executor, child(), asio::deferred); };
    for (int batch = 0; batch < batches; batch++) {
        std::vector<decltype(start_child())> children;
        children.reserve(CHILDREN);
        for (int i = 0; i < CHILDREN; i++) children.push_back(start_child());
        co_await asio::experimental::make_parallel_group(std::move(children))
            .async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
    }
}

Awaitable<> measure() {
    constexpr int BATCHES = 5000;
    co_await gather_batches(10);
    bench::Measurement measurement;
    co_await gather_batches(BATCHES);
    measurement.report("gather100", "child", double{CHILDREN} * BATCHES);
}

int main() {
    asio::io_context io(1);
    asio::co_spawn(io, measure(), asio::detached);
    io.run();
}
