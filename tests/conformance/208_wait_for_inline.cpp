// wait_for runs a coroutine inside the calling task (no extra task), and a cancellation that meets an inner future that is
// done already is not lost.

#include <optional>

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> who() { co_return coil::current_task().get_name(); }

static Coro<std::string> swallow_timeout() {
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("timeout swallowed by the body");
    }
    co_return "late value";
}

static Coro<> waits(coil::Future<std::string> future) {
    std::string result = co_await coil::wait_for(future, 5s);
    print("wrong: returned", result);
}

static Coro<> main() {
    coil::current_task().set_name("main");
    print("runs in", co_await coil::wait_for(who(), 1s));
    print("no limit runs in", co_await coil::wait_for(who(), std::nullopt));
    print("swallowed ->", co_await coil::wait_for(swallow_timeout(), 20ms));

    coil::EventLoop& loop = coil::get_running_loop();
    auto future = loop.create_future<std::string>();
    auto t = coil::create_task(waits(future));
    co_await coil::sleep(10ms);
    future.set_result("value");
    t.cancel();  // same iteration as the completion
    std::vector<coil::Task<>> tasks{t};
    co_await coil::wait(tasks);
    print("task cancelled", yn(t.cancelled()), "| future result", future.result());
}

SCENARIO("208_wait_for_inline") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
