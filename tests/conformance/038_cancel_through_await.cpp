// Cancelling a task that awaits another task cancels the innermost awaited task first; the exception then travels outwards
// one task at a time.

#include "scenario.hpp"

namespace conformance {

template <class A>
static Coro<> level(std::string name, A inner) {
    OnExit last([&] { print(name, "finally"); });
    try {
        print(name, "waits");
        co_await std::move(inner);
    } catch (const coil::CancelledError&) {
        print(name, "CancelledError");
        throw;
    }
}

static Coro<std::string> stubborn() {
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("stubborn ignores it");
    }
    co_return "stubborn result";
}

static Coro<std::string> outer(coil::Task<std::string> inner) { co_return "outer got " + co_await inner; }

static Coro<> main() {
    auto c = coil::create_task(level("c", coil::sleep(10s)), {.name = "c"});
    auto b = coil::create_task(level("b", c), {.name = "b"});
    auto a = coil::create_task(level("a", b), {.name = "a"});
    co_await coil::sleep(10ms);
    a.cancel();
    print("requests", a.cancelling(), b.cancelling(), c.cancelling());
    std::vector<coil::Task<>> levels{a, b, c};
    co_await coil::wait(levels);
    print("cancelled", yn(a.cancelled()), yn(b.cancelled()), yn(c.cancelled()));

    auto s = coil::create_task(stubborn());
    auto o = coil::create_task(outer(s));
    co_await coil::sleep(0s);
    co_await coil::sleep(0s);
    o.cancel();
    print(co_await o, "| outer cancelled", yn(o.cancelled()), "count", o.cancelling());
}

SCENARIO("038_cancel_through_await") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
