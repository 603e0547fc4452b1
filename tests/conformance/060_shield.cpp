// shield: the awaiter is cancelled, the shielded task is not; the other direction (the inner task cancelled) does reach the
// awaiter.

#include "scenario.hpp"

namespace conformance {

using Work = coil::Task<std::string>;

static Coro<std::string> work() {
    try {
        co_await coil::sleep(150ms);
        print("work done");
        co_return "result";
    } catch (const coil::CancelledError&) {
        print("work cancelled");
        throw;
    }
}

static Coro<> caller(Work task) {
    try {
        print("caller got", co_await coil::shield(task));
    } catch (const coil::CancelledError&) {
        print("caller CancelledError, own requests", coil::current_task().cancelling());
        throw;
    }
}

static Coro<> wait_for_end(coil::Task<> task) {
    std::vector<coil::Task<>> tasks{task};
    co_await coil::wait(tasks);
}

static Coro<> main() {
    Work w = coil::create_task(work());
    auto c = coil::create_task(caller(w));
    co_await coil::sleep(30ms);
    c.cancel();
    co_await wait_for_end(c);
    print("caller cancelled", yn(c.cancelled()), "| work done", yn(w.done()), "requests", w.cancelling());
    print("work gives", co_await w);

    w = coil::create_task(work());
    c = coil::create_task(caller(w));
    co_await coil::sleep(30ms);
    w.cancel();
    co_await wait_for_end(c);
    print("caller cancelled", yn(c.cancelled()));

    w = coil::create_task(work());
    co_await w;
    print("shield of a done task", coil::shield(w) == w ? "is the task itself" : "is a new future");

    w = coil::create_task(work());
    auto s = coil::shield(w);
    print("cancel the shield future", yn(s.cancel()), "| work requests", w.cancelling());
    print("work gives", co_await w);
}

SCENARIO("060_shield") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
