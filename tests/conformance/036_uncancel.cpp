// cancelling() counts requests; uncancel() counts down, never below zero, and does not by itself undo a cancellation that
// was delivered.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> counting() {
    auto me = coil::current_task();
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("caught, cancelling", me.cancelling());
        print("uncancel ->", me.uncancel());
        print("uncancel ->", me.uncancel());
        print("uncancel at zero ->", me.uncancel());
    }
    co_await coil::sleep(10ms);
    print("continues normally, cancelling", me.cancelling());
    co_return "ok";
}

static Coro<> reraise() {
    auto me = coil::current_task();
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("uncancel then re-raise ->", me.uncancel());
        throw;
    }
}

static Coro<> main() {
    auto t = coil::create_task(counting());
    co_await coil::sleep(0s);
    print("before", t.cancelling());
    t.cancel();
    t.cancel();
    print("after two cancels", t.cancelling());
    print("result", co_await t);

    auto u = coil::create_task(reraise());
    co_await coil::sleep(0s);
    u.cancel();
    try {
        co_await u;
    } catch (const coil::CancelledError&) {
        print("still cancelled", yn(u.cancelled()), "count", u.cancelling());
    }
}

SCENARIO("036_uncancel") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
