// Barrier: all parties go on together, indexes, another round, cancellation while it fills.

#include "scenario.hpp"

namespace conformance {

static Coro<> party(std::string name, coil::Barrier& barrier, coil::Duration delay) {
    co_await coil::sleep(delay);
    print(name, "arrives, waiting", barrier.n_waiting());
    std::size_t index = co_await barrier.wait();
    print(name, "passes with index", index);
}

static Coro<> main() {
    coil::Barrier barrier(3);
    print("parties", barrier.parties(), "broken", yn(barrier.broken()));
    for (int round = 0; round < 2; ++round) {
        print("-- round", round);
        co_await coil::gather(party("a", barrier, 30ms), party("b", barrier, 90ms),
                              party("c", barrier, 150ms));
    }

    print("-- cancelled waiter leaves the barrier");
    auto t = coil::create_task(party("quitter", barrier, 0s));
    co_await coil::sleep(30ms);
    print("waiting", barrier.n_waiting());
    t.cancel();
    std::vector<coil::Task<>> quitters{t};
    co_await coil::wait(quitters);
    print("waiting", barrier.n_waiting(), "broken", yn(barrier.broken()));
    co_await coil::gather(party("d", barrier, 60ms), party("e", barrier, 120ms), party("f", barrier, 180ms));

    coil::Barrier one(1);
    auto body = [](std::size_t position) -> Coro<> {
        print("context manager position", position);
        co_return;
    };
    co_await coil::async_with(one, body);
    try {
        coil::Barrier zero(0);
    } catch (const coil::ValueError&) {
        print("zero parties -> ValueError");
    }
}

SCENARIO("098_barrier") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
