// Semaphore: the limit, wake-ups in order, locked(), release above the initial value; BoundedSemaphore refuses that; an initial
// value out of range.

#include "scenario.hpp"

namespace conformance {

static int active = 0;

static Coro<> worker(std::string name, coil::Semaphore& semaphore, coil::Duration hold) {
    {
        auto permit = co_await semaphore.scoped();
        print(name, "in, active", ++active);
        co_await coil::sleep(hold);
        --active;
    }
    print(name, "out");
}

static Coro<> main() {
    coil::Semaphore two(2);
    print("locked", yn(two.locked()));
    auto workers = coil::gather(worker("a", two, 90ms), worker("b", two, 180ms), worker("c", two, 180ms),
                                worker("d", two, 180ms));
    co_await coil::sleep(30ms);
    print("locked", yn(two.locked()));
    co_await workers;

    coil::Semaphore none(0);
    none.release();
    none.release();
    co_await none.acquire();
    co_await none.acquire();
    print("two releases gave two permits; locked", yn(none.locked()));

    coil::BoundedSemaphore bounded(1);
    co_await bounded.acquire();
    bounded.release();
    try {
        bounded.release();
    } catch (const coil::ValueError& e) {
        print("bounded -> ValueError:", e.what());
    }
    try {
        coil::Semaphore negative(-1);
    } catch (const coil::ValueError& e) {
        print("negative -> ValueError:", e.what());
    }
}

SCENARIO("095_semaphore") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
