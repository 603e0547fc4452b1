// Cancelling the task that runs the group: children are cancelled and awaited, then CancelledError goes on (no ExceptionGroup
// unless a child failed).

#include "scenario.hpp"

namespace conformance {

static Coro<> child(std::string name, coil::Duration delay, bool fail = false) {
    auto slept = co_await coil::try_await(coil::sleep(10s));
    if (slept.cancelled()) {
        co_await coil::sleep(delay);
        print(name, "cleaned after cancel");
        if (fail) throw AppError(name);
    }
    slept.value();
}

static Coro<> runner(bool fail, bool in_body) {
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(child("a", 60ms));
        tg.create_task(child("b", 120ms, fail));
        if (in_body) co_await coil::sleep(10s);
    });
    print("not reached");
}

static Coro<> main() {
    for (bool fail : {false, true}) {
        for (bool in_body : {false, true}) {
            auto t = coil::create_task(runner(fail, in_body));
            co_await coil::sleep(30ms);
            print("-- cancel; child fails", yn(fail), "| body suspended", yn(in_body));
            t.cancel();
            try {
                co_await t;
            } catch (const coil::CancelledError&) {
                print("CancelledError, task cancelled", yn(t.cancelled()));
            } catch (const coil::ExceptionGroup& group) {
                print("ExceptionGroup", texts_of(group), "| task cancelled", yn(t.cancelled()));
            }
        }
    }
}

SCENARIO("074_taskgroup_outer_cancel") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
