// Errors for misuse of tasks.

#include "scenario.hpp"

namespace conformance {

template <class F>
static void attempt(const char* label, F f) {
    try {
        f();
        print(label, "-> ok");
    } catch (const std::exception& e) {
        print(label, "->", name_of(e));
    }
}

static Coro<> wait_for_myself() {
    try {
        co_await coil::current_task();
    } catch (const coil::RuntimeError& e) {
        print("await self ->", name_of(e));
    }
}

static Coro<> main() {
    auto t = coil::create_task(coil::sleep(10ms, std::string("x")));
    attempt("set_result on task", [&] { t.set_result("1"); });
    attempt("set_exception on task", [&] { t.set_exception(coil::ValueError("")); });
    attempt("result while pending", [&] { t.result(); });
    attempt("exception while pending", [&] { t.exception(); });
    print("task result", co_await t);
    co_await coil::create_task(wait_for_myself());

    auto other = new_loop();
    auto foreign = other->create_future();
    try {
        co_await foreign;
    } catch (const coil::RuntimeError& e) {
        print("future of another loop ->", name_of(e));
    }
    other->close();
    print("ensure_future of a task returns it", yn(coil::ensure_future(t) == t));
}

SCENARIO("040_task_misuse") {
    attempt("create_task without loop", [] { coil::create_task(coil::sleep(0s)); });
    coil::run(main(), {.loop_factory = new_loop});
}

}  // namespace conformance
