// gather(return_exceptions, …): waits for all; exceptions become values, a cancelled child becomes a CancelledError.

#include <functional>

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> job(std::string name, coil::Future<> gate, bool fail = false) {
    co_await gate;
    print(name, "ends");
    if (fail) throw AppError(name);
    co_return name;
}

using Step = std::function<void()>;

static Step open(coil::Future<> gate) {
    return [gate]() mutable { gate.set_result(); };
}
static Step cancel(coil::Task<> task) {
    return [task]() mutable { task.cancel(); };
}

static Coro<> driver(std::vector<Step> steps) {
    for (Step& step : steps) {
        for (int i = 0; i < 8; ++i) co_await coil::sleep(0s);  // let everything else settle first
        step();
    }
}

static std::string show(const coil::Outcome<std::string>& outcome) {
    if (outcome) return *outcome;
    return name_of(outcome.exception()) + "(" + text_of(outcome.exception()) + ")";
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto a = loop.create_future();
    auto b = loop.create_future();
    auto c = loop.create_future();
    auto never = loop.create_future();
    auto o = loop.create_future();
    auto victim = coil::create_task(job("victim", never));
    auto d = coil::create_task(driver({open(b), cancel(victim), open(a), open(c)}));
    auto [r1, r2, r3, r4] = co_await coil::gather(coil::return_exceptions, job("a", a), job("b", b, true),
                                                  victim, job("c", c, true));
    print(show(r1), show(r2), show(r3), show(r4));
    co_await d;

    // Without return_exceptions a cancelled child throws CancelledError out of gather, but the awaiting task itself is not
    // cancelled.
    victim = coil::create_task(job("victim", loop.create_future()));
    auto other = coil::create_task(job("other", o));
    d = coil::create_task(driver({cancel(victim), open(o)}));
    auto g = coil::gather(victim, other);
    try {
        co_await g;
    } catch (const coil::CancelledError&) {
        print("CancelledError from gather; gather cancelled", yn(g.cancelled()), "main cancelling",
              coil::current_task().cancelling());
    }
    print("other still runs", yn(!other.done()));
    print(co_await other);
}

SCENARIO("052_gather_return_exceptions") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
