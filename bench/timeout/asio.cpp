#include "../common/asio.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;

Awaitable<> ready() { co_return; }
Awaitable<> take_turn() { co_await asio::post(asio::use_awaitable); }

Awaitable<> run_blocks(Awaitable<> (*body)(), int count) {
    auto executor = co_await asio::this_coro::executor;
    for (int i = 0; i < count; i++) {
        asio::steady_timer timer(executor, 1s);
        co_await (body() || timer.async_wait(asio::as_tuple(asio::use_awaitable)));
    }
}

Awaitable<> measure_body(const char* name, Awaitable<> (*body)()) {
    constexpr int COUNT = 500'000;
    co_await run_blocks(body, 1000);
    bench::Measurement measurement;
    co_await run_blocks(body, COUNT);
    measurement.report("timeout", name, COUNT);
}

Awaitable<> measure() {
    co_await measure_body("ready", ready);
    co_await measure_body("sleep0", take_turn);
}

int main() {
    asio::io_context io(1);
    asio::co_spawn(io, measure(), asio::detached);
    io.run();
}
