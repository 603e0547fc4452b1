// timeout: the body sees CancelledError, the outside sees TimeoutError.

#include <optional>

#include "scenario.hpp"

namespace conformance {

static Coro<> main() {
    auto me = coil::current_task();
    coil::Timeout expiring = coil::timeout(60ms);
    try {
        co_await coil::async_with(expiring, [&](coil::Timeout& tm) -> Coro<> {
            try {
                co_await coil::sleep(10s);
            } catch (const coil::CancelledError&) {
                print("body CancelledError, expired", yn(tm.expired()), "cancelling", me.cancelling());
                throw;
            } catch (const coil::TimeoutError&) {
                print("TimeoutError never appears inside");
            }
        });
    } catch (const coil::TimeoutError& e) {
        print("TimeoutError outside, cause", name_of(e.cause()));
    }
    print("expired", yn(expiring.expired()), "cancelling", me.cancelling());

    coil::Timeout in_time = coil::timeout(1s);
    co_await coil::async_with(in_time, [] { return coil::sleep(30ms); });
    print("in time, expired", yn(in_time.expired()));

    coil::Timeout no_limit = coil::timeout(std::nullopt);
    co_await coil::async_with(no_limit, [] { return coil::sleep(30ms); });
    print("no limit, when", no_limit.when() ? "set" : "none");

    coil::EventLoop& loop = coil::get_running_loop();
    try {
        co_await coil::async_with(coil::timeout_at(loop.time() + 60ms), [] { return coil::sleep(10s); });
    } catch (const coil::TimeoutError&) {
        print("timeout_at TimeoutError");
    }
    co_await coil::sleep(30ms);
    print("task continues");
}

SCENARIO("080_timeout_basic") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
