// Cancellation of Handle and TimerHandle.

#include "scenario.hpp"

namespace conformance {

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::Handle h1 = loop.call_soon(print, "h1 must not run");
    coil::Handle h2 = loop.call_soon(print, "h2 runs");
    h1.cancel();
    h1.cancel();  // idempotent
    print("h1 cancelled", yn(h1.cancelled()), "h2 cancelled", yn(h2.cancelled()));

    // A callback may cancel a later callback of the same batch.
    coil::Handle victim;
    loop.call_soon([&] {
        print("killer");
        victim.cancel();
    });
    victim = loop.call_soon(print, "victim must not run");
    loop.call_soon(print, "bystander runs");
    co_await coil::sleep(0s);

    coil::TimerHandle t1 = loop.call_later(20ms, print, "t1 must not run");
    coil::TimerHandle t2 = loop.call_later(40ms, print, "t2 runs");
    t1.cancel();
    print("t1 cancelled", yn(t1.cancelled()));
    co_await coil::sleep(80ms);
    t2.cancel();  // after it ran: the flag only
    print("t2 cancelled after run", yn(t2.cancelled()));
    h2.cancel();
    print("h2 cancelled after run", yn(h2.cancelled()));
}

SCENARIO("005_handle_cancel") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
