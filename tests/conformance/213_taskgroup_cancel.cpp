// TaskGroup::cancel(): ends children and body, leaves the block without an exception; idempotent; before the entry it takes
// effect on entry.

#include "scenario.hpp"

namespace conformance {

static Coro<> job(std::string name, bool fail = false) {
    try {
        print(name, "start");
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print(name, "stopped");
        if (fail) throw AppError(name);
        throw;
    }
}

static Coro<> main() {
    auto me = coil::current_task();
    coil::TaskGroup in_body;
    co_await coil::async_with(in_body, [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(job("a"));
        co_await coil::sleep(10ms);
        tg.cancel();
        tg.cancel();
        print("body runs on until it suspends");
        co_await coil::sleep(10s);
        print("not reached");
    });
    print("left normally, requests", me.cancelling());
    in_body.cancel();

    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(job("b"));
        coil::get_running_loop().call_later(20ms, &coil::TaskGroup::cancel, &tg);
        co_return;
    });
    print("cancelled while waiting; left normally, requests", me.cancelling());

    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
            tg.create_task(job("c", true));
            co_await coil::sleep(10ms);
            tg.cancel();
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<AppError>();
        print("errors still raised:", texts_of(errors.value()));
        if (others) throw *others;
    }

    coil::TaskGroup cancelled;
    cancelled.cancel();
    co_await coil::async_with(cancelled, [](coil::TaskGroup&) -> Coro<> {
        print("entered");
        co_await coil::sleep(0s);
        print("not reached");
    });
    print("end");
}

SCENARIO("213_taskgroup_cancel") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
