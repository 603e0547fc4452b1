// Cleanup may await while a cancellation is unwinding; an exception thrown there replaces the cancellation.

#include "scenario.hpp"

namespace conformance {

static Coro<> slow_cleanup() {
    co_await coil::finally(coil::sleep(10s), []() -> Coro<> {
        print("cleanup awaits");
        co_await coil::sleep(20ms);
        print("cleanup finished");
    });
}

static Coro<> failing_cleanup() {
    co_await coil::finally(coil::sleep(10s), []() -> Coro<> {
        print("cleanup raises");
        throw AppError("from finally");
        co_return;
    });
}

static Coro<> nested() {
    auto inner = coil::finally(coil::sleep(10s), []() -> Coro<> {
        print("inner finally");
        co_await coil::sleep(0s);
        print("inner finally resumed");
    });
    co_await coil::finally(std::move(inner), []() -> Coro<> {
        print("outer finally");
        co_return;
    });
}

static Coro<> main() {
    for (auto* function : {slow_cleanup, failing_cleanup, nested}) {
        auto t = coil::create_task(function());
        co_await coil::sleep(0s);
        t.cancel();
        try {
            co_await t;
        } catch (const coil::CancelledError&) {
            print("-> CancelledError");
        } catch (const AppError& e) {
            print("-> AppError", e.what());
        }
        print("cancelled", yn(t.cancelled()));
    }
}

SCENARIO("041_cancel_cleanup") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
