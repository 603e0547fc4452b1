// A loop's life, used wrongly: nested runs, close while running, use after close; and close twice, which is right.

#include "scenario.hpp"

namespace conformance {

template <class F>
static void attempt(const char* label, F f) {
    try {
        f();
        print(label, "-> ok");
    } catch (const coil::RuntimeError& e) {
        print(label, "-> RuntimeError:", e.what());
    }
}

static Coro<> inner(coil::EventLoop& loop) {
    print("running", yn(loop.is_running()));
    print("same loop", yn(&coil::get_running_loop() == &loop));
    attempt("run_forever nested", [&] { loop.run_forever(); });
    attempt("close while running", [&] { loop.close(); });
    auto other = new_loop();
    attempt("other loop while one runs", [&] { other->run_forever(); });
    other->close();
    attempt("asyncio.run nested", [] { coil::run(coil::sleep(0s), {.loop_factory = new_loop}); });
    co_return;
}

SCENARIO("008_loop_lifecycle_errors") {
    attempt("get_running_loop outside", [] { coil::get_running_loop(); });
    auto loop = new_loop();
    loop->run_until_complete(inner(*loop));
    loop->call_soon(print, "pending callback must be discarded by close");
    loop->close();
    loop->close();
    print("closed", yn(loop->is_closed()));
    attempt("call_soon after close", [&] { loop->call_soon(print, "x"); });
    attempt("call_later after close", [&] { loop->call_later(1s, print, "x"); });
    attempt("threadsafe after close", [&] { loop->call_soon_threadsafe(print); });
    attempt("run_forever after close", [&] { loop->run_forever(); });
    attempt("get_running_loop outside", [] { coil::get_running_loop(); });
}

}  // namespace conformance
