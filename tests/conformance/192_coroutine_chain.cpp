// Chained coroutines: direct awaits run in order inside one task; no task switch happens unless something really suspends.

#include <tuple>

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> phase1() {
    print("in phase1");
    co_return "result1";
}

static Coro<std::string> phase2(std::string argument) {
    print("in phase2");
    co_return "result2 derived from " + argument;
}

static Coro<std::tuple<std::string, std::string>> outer() {
    print("in outer");
    std::string r1 = co_await phase1();
    std::string r2 = co_await phase2(r1);
    co_return std::tuple(r1, r2);
}

static Coro<int> deep(int n) {
    if (n == 0) co_return 0;  // GCC 12 awaits both branches of a conditional expression
    co_return 1 + co_await deep(n - 1);
}

static Coro<int> deep_suspend(int n) {
    if (n == 0) {
        co_await coil::sleep(0s);
        co_return 0;
    }
    co_return 1 + co_await deep_suspend(n - 1);
}

static Coro<> deep_raise(int n) {
    if (n == 0) throw coil::RuntimeError("from the bottom");
    co_await deep_raise(n - 1);
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.call_soon(print, "callback: runs at main's first real suspension");
    auto [r1, r2] = co_await outer();
    print("return value:", "|", r1, "|", r2);
    print("deep chain", co_await deep(200));
    print("still no suspension");
    print("deep chain with suspension", co_await deep_suspend(200));
    try {
        co_await deep_raise(100);
    } catch (const coil::RuntimeError& e) {
        print("RuntimeError", e.what());
    }
}

SCENARIO("192_coroutine_chain") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
