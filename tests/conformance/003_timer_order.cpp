// Timers fire in the order of their deadlines, whatever the order of registration; zero and negative delays fire in the
// first iteration, after callbacks that are ready.

#include "scenario.hpp"

namespace conformance {

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.call_later(360ms, print, "t360");
    loop.call_later(120ms, print, "t120");
    loop.call_later(240ms, print, "t240");
    loop.call_later(-1s, print, "negative");
    loop.call_later(0s, print, "zero");
    loop.call_soon(print, "soon");
    coil::TimePoint base = loop.time();
    coil::TimerHandle handle = loop.call_at(base + 300ms, print, "at300");
    print("when matches", yn(handle.when() == base + 300ms));
    loop.call_at(base + 180ms, print, "at180");
    print("registered");
    co_await coil::sleep(0s);
    print("after sleep0 (timers already due were queued behind this task)");
    co_await coil::sleep(600ms);
    print("end");
}

SCENARIO("003_timer_order") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
