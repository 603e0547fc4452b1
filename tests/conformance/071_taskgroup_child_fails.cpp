// TaskGroup: the first child that fails cancels its siblings and the body; all are awaited; the errors come out as one
// ExceptionGroup.

#include "scenario.hpp"

namespace conformance {

static Coro<> child(std::string name, coil::Duration delay, bool fail = false) {
    print(name, "start");
    auto slept = co_await coil::try_await(coil::sleep(delay));
    if (slept.cancelled()) {
        print(name, "cancelled");
        co_await coil::sleep(60ms);
        print(name, "cleaned");
    }
    slept.value();
    if (fail) {
        print(name, "fails");
        throw AppError(name);
    }
    print(name, "ok");
}

static Coro<> main() {
    auto me = coil::current_task();
    try {
        co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
            tg.create_task(child("a", 60ms));
            tg.create_task(child("b", 150ms, true));
            tg.create_task(child("c", 10s));
            try {
                co_await coil::sleep(10s);
                print("body not reached");
            } catch (const coil::CancelledError&) {
                print("body cancelled, cancelling", me.cancelling());
                throw;
            }
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<AppError>();
        print(name_of(group), "| message:", group.message(), "| errors", texts_of(errors.value()));
        if (others) throw *others;
    }
    print("cancelling afterwards", me.cancelling());
    co_await coil::sleep(30ms);
    print("main continues");
}

SCENARIO("071_taskgroup_child_fails") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
