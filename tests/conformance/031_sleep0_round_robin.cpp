// sleep(0) gives every other ready task one step: strict round robin.

#include "scenario.hpp"

namespace conformance {

static Coro<> worker(std::string name, int rounds) {
    for (int i = 0; i < rounds; ++i) {
        print(name, i);
        co_await coil::sleep(0s);
    }
}

static Coro<> main() {
    co_await coil::gather(worker("a", 3), worker("b", 2), worker("c", 4));
    print("-- negative delay behaves like 0, result is passed through");
    auto task = coil::create_task(worker("x", 1));
    print("result", co_await coil::sleep(-1s, "ok"));
    co_await task;
    print("timed result", co_await coil::sleep(10ms, 7));
}

SCENARIO("031_sleep0_round_robin") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
