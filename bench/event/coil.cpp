// Two tasks that wake one another in turn through two events.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

coil::Coro<> answer(coil::Event& mine, coil::Event& other, long count) {
    for (long i = 0; i < count; i++) {
        co_await mine.wait();
        mine.clear();
        other.set();
    }
}

coil::Coro<> wake_in_turn(long wakes) {
    coil::Event ping;
    coil::Event pong;
    ping.set();
    co_await coil::gather(answer(ping, pong, wakes / 2), answer(pong, ping, wakes / 2));
}

coil::Coro<> measure() {
    constexpr long WAKES = 5'000'000;
    co_await wake_in_turn(1000);
    bench::Measurement measurement;
    co_await wake_in_turn(WAKES);
    measurement.report("event", "wake", WAKES);
}

int main() { coil::run(measure()); }
