// Two cancels before delivery collapse into one exception (counted twice); a cancel during cleanup interrupts the cleanup.

#include "scenario.hpp"

namespace conformance {

static Coro<> collapse() {
    int hits = 0;
    for (int i = 0; i < 2; ++i) {
        try {
            co_await coil::sleep(30ms);
            print("slept normally");
        } catch (const coil::CancelledError&) {
            print("hit", ++hits, "cancelling", coil::current_task().cancelling());
        }
    }
}

static Coro<> cleanup() {
    OnExit last([] { print("outer finally"); });
    auto slept = co_await coil::try_await(coil::sleep(10s));
    if (slept.cancelled()) {
        print("cleanup begins");
        try {
            co_await coil::sleep(10s);
            print("cleanup not reached");
        } catch (const coil::CancelledError&) {
            print("cleanup interrupted, cancelling", coil::current_task().cancelling());
            throw;
        }
    }
}

static Coro<> main() {
    auto t = coil::create_task(collapse());
    co_await coil::sleep(0s);
    print("cancel 1", yn(t.cancel()));
    print("cancel 2", yn(t.cancel()));
    co_await t;

    t = coil::create_task(cleanup());
    co_await coil::sleep(0s);
    t.cancel();
    co_await coil::sleep(10ms);
    t.cancel();
    try {
        co_await t;
    } catch (const coil::CancelledError&) {
        print("task cancelled", yn(t.cancelled()));
    }
}

SCENARIO("035_cancel_twice") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
