// Task::cancel: delivered as an exception where the task is suspended, in a later iteration; a body that has not begun does
// not run at all.

#include "scenario.hpp"

namespace conformance {

static Coro<> work(std::string name) {
    OnExit last([&] { print(name, "finally"); });
    print(name, "start");
    try {
        co_await coil::sleep(10s);
        print(name, "not reached");
    } catch (const coil::CancelledError&) {
        print(name, "got CancelledError");
        throw;
    }
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto t = coil::create_task(work("never-started"));
    print("cancel returns", yn(t.cancel()));
    print("cancelled right away", yn(t.cancelled()), "done", yn(t.done()));
    try {
        co_await t;
    } catch (const coil::CancelledError&) {
        print("main saw CancelledError");
    }
    print("now cancelled", yn(t.cancelled()));

    t = coil::create_task(work("sleeper"));
    co_await coil::sleep(0s);
    loop.call_soon(print, "callback queued before cancel()");
    t.cancel();
    loop.call_soon(print, "callback queued after cancel()");
    print("cancel() returned, done", yn(t.done()));
    co_await coil::sleep(0s);
    print("one iteration later, done", yn(t.done()));
    co_await coil::sleep(0s);
    print("cancelled", yn(t.cancelled()));
    print("cancel when done returns", yn(t.cancel()));
    try {
        t.result();
    } catch (const coil::CancelledError&) {
        print("result raises CancelledError");
    }
    try {
        t.exception();
    } catch (const coil::CancelledError&) {
        print("exception raises CancelledError");
    }
}

SCENARIO("033_task_cancel_basic") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
