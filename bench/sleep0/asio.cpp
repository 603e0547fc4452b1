#include "../common/asio.hpp"

#include "../common/bench.hpp"

Awaitable<> take_turns(long turns) {
    for (long i = 0; i < turns; i++) co_await asio::post(asio::use_awaitable);
}

int main() {
    constexpr long TOTAL = 5'000'000;
    for (long tasks : {1L, 100L, 10'000L}) {
        asio::io_context io(1);
        long turns = TOTAL / tasks;
        for (long i = 0; i < tasks; i++) asio::co_spawn(io, take_turns(turns), asio::detached);
        double took = run_timed(io, now_ns);
        report("sleep0", std::to_string(tasks).c_str(), took / static_cast<double>(tasks * turns));
    }
}
