// A call in a thread and its result back in the loop: one after another, and 64 at once.
#include <coil/coil.hpp>

#include <cstdlib>

#include "../common/bench.hpp"

coil::Coro<> one_after_another(long count) {
    for (long i = 0; i < count; i++) {
        long result = co_await coil::to_thread([](long value) { return value + 1; }, i);
        if (result != i + 1) std::abort();
    }
}

coil::Coro<> at_once(long rounds, long width) {
    for (long round = 0; round < rounds; round++) {
        std::vector<coil::Coro<long>> calls;
        for (long i = 0; i < width; i++)
            calls.push_back(coil::to_thread([](long value) { return value + 1; }, i));
        auto all = coil::gather(std::move(calls));
        auto results = co_await std::move(all);
        for (long i = 0; i < width; i++)
            if (results[static_cast<std::size_t>(i)] != i + 1) std::abort();
    }
}

coil::Coro<> measure() {
    constexpr long COUNT = 20'000;
    constexpr long WIDTH = 64;
    constexpr long ROUNDS = 1'500;
    co_await one_after_another(200);
    double start = now_ns();
    co_await one_after_another(COUNT);
    report("to_thread", "one", (now_ns() - start) / COUNT);

    co_await at_once(20, WIDTH);
    start = now_ns();
    co_await at_once(ROUNDS, WIDTH);
    report("to_thread", "64_at_once", (now_ns() - start) / static_cast<double>(ROUNDS * WIDTH));
}

int main() { coil::run(measure()); }
