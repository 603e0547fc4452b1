// Nested time limits: only the expired one turns the cancellation into TimeoutError.

#include "scenario.hpp"

namespace conformance {

static Coro<> nested(coil::Duration outer_delay, coil::Duration inner_delay) {
    print("-- outer", outer_delay < inner_delay ? "short" : "long");
    coil::Timeout outer = coil::timeout(outer_delay);
    coil::Timeout inner = coil::timeout(inner_delay);
    try {
        co_await coil::async_with(outer, [&]() -> Coro<> {
            try {
                co_await coil::async_with(inner, [] { return coil::sleep(10s); });
            } catch (const coil::TimeoutError&) {
                print("inner TimeoutError");
            } catch (const coil::CancelledError&) {
                print("inner block left by CancelledError");
                throw;
            }
            print("outer body continues");
        });
    } catch (const coil::TimeoutError&) {
        print("outer TimeoutError");
    }
    print("outer expired", yn(outer.expired()), "inner expired", yn(inner.expired()), "cancelling",
          coil::current_task().cancelling());
}

static Coro<> main() {
    co_await nested(180ms, 60ms);
    co_await nested(60ms, 180ms);

    print("-- inner handled, then outer expires");
    try {
        co_await coil::async_with(coil::timeout(180ms), []() -> Coro<> {
            try {
                co_await coil::async_with(coil::timeout(60ms), [] { return coil::sleep(10s); });
            } catch (const coil::TimeoutError&) {
                print("inner TimeoutError");
            }
            co_await coil::sleep(10s);
        });
    } catch (const coil::TimeoutError&) {
        print("outer TimeoutError");
    }
}

SCENARIO("081_timeout_nested") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
