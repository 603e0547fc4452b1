// A block with a time limit that does not pass: around a body that is ready at once, and around one sleep(0).
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using namespace std::chrono_literals;

coil::Coro<> ready() { co_return; }
coil::Coro<> take_turn() { co_await coil::sleep(0s); }

coil::Coro<> run_blocks(coil::Coro<> (*body)(), int count) {
    for (int i = 0; i < count; i++) co_await coil::async_with(coil::timeout(1s), body);
}

coil::Coro<> measure_body(const char* name, coil::Coro<> (*body)()) {
    constexpr int COUNT = 3'000'000;
    co_await run_blocks(body, 1000);
    bench::Measurement measurement;
    co_await run_blocks(body, COUNT);
    measurement.report("timeout", name, COUNT);
}

coil::Coro<> measure() {
    co_await measure_body("ready", ready);
    co_await measure_body("sleep0", take_turn);
}

int main() { coil::run(measure()); }
