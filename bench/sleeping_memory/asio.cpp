#include "../common/asio.hpp"

#include "../common/bench.hpp"

Awaitable<> sleeper() {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
    co_await timer.async_wait(asio::use_awaitable);
}

int main() {
    constexpr int TASKS = 1'000'000;
    asio::io_context io(1);
    double before = bench::resident_bytes();
    for (int i = 0; i < TASKS; i++) asio::co_spawn(io, sleeper(), asio::detached);
    io.poll();
    report("sleeping_task_bytes", "1M", (bench::resident_bytes() - before) / TASKS);
    _exit(0);
}
