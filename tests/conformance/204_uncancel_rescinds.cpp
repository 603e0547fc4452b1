// uncancel() down to zero withdraws a cancellation that was not delivered yet.

#include "scenario.hpp"

namespace conformance {

static Coro<> main() {
    auto me = coil::current_task();
    me.cancel();
    print("requests", me.cancelling());
    print("uncancel ->", me.uncancel());
    co_await coil::sleep(0s);
    print("nothing was thrown");

    me.cancel();
    me.cancel();
    print("uncancel ->", me.uncancel());
    try {
        co_await coil::sleep(0s);
    } catch (const coil::CancelledError&) {
        print("still one request left: CancelledError; uncancel ->", me.uncancel());
    }
    co_await coil::sleep(0s);
    print("end");
}

SCENARIO("204_uncancel_rescinds") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
