// run: when main returns, every other task is cancelled and awaited; failures during that shutdown reach the exception
// handler.

#include "scenario.hpp"

namespace conformance {

static Coro<> background(std::string name, coil::Duration cleanup, bool fail = false) {
    print(name, "start");
    auto slept = co_await coil::try_await(coil::sleep(10s));
    if (slept.cancelled()) {
        print(name, "cancelled");
        co_await coil::sleep(cleanup);
        print(name, "cleaned");
        if (fail) throw AppError(name);
    }
    slept.value();  // throws the CancelledError again
}

static Coro<std::string> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext& context) {
        print("handler:", context.message, "|", text_of(context.exception));
    });
    auto t = coil::create_task(background("bg", 60ms, true));
    t.add_done_callback([](coil::Task<>) { print("bg done callback"); });
    co_await coil::sleep(30ms);
    print("main returns");
    co_return "main result";
}

static Coro<> failing_main() {
    auto t = coil::create_task(background("bg2", 60ms));
    co_await coil::sleep(30ms);
    print("main raises; other tasks", coil::all_tasks().size() - 1);
    throw AppError("main failed");
}

SCENARIO("120_run_cancels_pending") {
    print("run ->", coil::run(main(), {.loop_factory = new_loop}));
    try {
        coil::run(failing_main(), {.loop_factory = new_loop});
    } catch (const AppError& e) {
        print("run raised", e.what());
    }
    print("a third run gets a fresh loop ->",
          coil::run(coil::sleep(30ms, "fresh"), {.loop_factory = new_loop}));
}

}  // namespace conformance
