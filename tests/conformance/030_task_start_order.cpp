// create_task only schedules: bodies start in order of creation in the next iteration. Awaiting a coroutine directly starts
// it inline.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> child(std::string name, int steps) {
    print(name, "start");
    for (int i = 0; i < steps; ++i) {
        co_await coil::sleep(0s);
        print(name, "step", i);
    }
    print(name, "end");
    co_return name;
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    print("create a, b");
    auto a = coil::create_task(child("a", 2));
    auto b = coil::create_task(child("b", 1));
    loop.call_soon(print, "callback queued after the tasks");
    print("nothing started");
    print("inline", co_await child("inline", 0));
    print("still nothing started");
    print("await b ->", co_await b);
    print("a done", yn(a.done()));
    print("await a ->", co_await a);
    print("await a again ->", co_await a);
}

SCENARIO("030_task_start_order") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
