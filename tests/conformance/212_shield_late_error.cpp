// When the awaiter of a shield is gone and the inner task then fails, the error is reported to the exception handler instead
// of being lost.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> inner(bool fail) {
    co_await coil::sleep(90ms);
    if (fail) throw AppError("late failure");
    co_return "late result";
}

static Coro<> caller(coil::Task<std::string> task) { co_await coil::shield(task); }

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext& context) {
        print("handler:", context.message, "|", text_of(context.exception));
    });
    for (bool fail : {false, true}) {
        auto t = coil::create_task(inner(fail));
        auto c = coil::create_task(caller(t));
        co_await coil::sleep(30ms);
        c.cancel();
        std::vector<coil::Task<>> callers{c};
        co_await coil::wait(callers);
        co_await coil::sleep(150ms);
        print(fail ? "inner failed" : "inner succeeded", "after the cancel");
    }
}

SCENARIO("212_shield_late_error") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
