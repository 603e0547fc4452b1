// A deadline of zero or in the past still lets the body run up to its first suspension; a body that never suspends finishes
// without TimeoutError.

#include "scenario.hpp"

namespace conformance {

static Coro<> main() {
    try {
        co_await coil::async_with(coil::timeout(0s), []() -> Coro<> {
            print("body runs");
            co_await coil::sleep(0s);
            print("not reached");
        });
    } catch (const coil::TimeoutError&) {
        print("TimeoutError at the first suspension");
    }

    coil::Timeout tm = coil::timeout(0s);
    co_await coil::async_with(tm, []() -> Coro<> {
        print("body without suspension");
        co_return;
    });
    print("expired", yn(tm.expired()));

    coil::EventLoop& loop = coil::get_running_loop();
    try {
        co_await coil::async_with(coil::timeout_at(loop.time() - 5s), [] { return coil::sleep(10s); });
    } catch (const coil::TimeoutError&) {
        print("past deadline TimeoutError");
    }

    try {
        co_await coil::wait_for(coil::sleep(10s), 0s);
    } catch (const coil::TimeoutError&) {
        print("wait_for zero TimeoutError");
    }

    auto done = loop.create_future<std::string>();
    done.set_result("value");
    co_await coil::async_with(coil::timeout(0s),
                              [&]() -> Coro<> { print("done future inside zero timeout:", co_await done); });
    co_await coil::sleep(10ms);
    print("no cancellation leaks out, cancelling", coil::current_task().cancelling());
}

SCENARIO("085_timeout_zero") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
