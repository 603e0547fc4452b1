// The exception of a future or task that nobody looked at is reported to the exception handler when its last handle goes.
// Looking at it (result, exception, co_await) or cancel() prevents that.

#include "scenario.hpp"

namespace conformance {

static Coro<> boom(std::string text) {
    throw AppError(text);
    co_return;
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext& context) {
        print("report:", context.message, "|", text_of(context.exception));
    });

    auto f = loop.create_future();
    f.set_exception(AppError("future ignored"));
    print("dropping future");
    f = {};

    f = loop.create_future();
    f.set_exception(AppError("future looked at"));
    f.exception();
    print("dropping retrieved future");
    f = {};

    auto t = coil::create_task(boom("task ignored"));
    co_await coil::sleep(20ms);
    print("dropping task");
    t = {};

    t = coil::create_task(boom("task awaited"));
    try {
        co_await t;
    } catch (const AppError& e) {
        print("awaited:", e.what());
    }
    print("dropping awaited task");
    t = {};

    t = coil::create_task(boom("task cancelled after the fact"));
    co_await coil::sleep(20ms);
    print("cancel on failed task", yn(t.cancel()));
    print("dropping");
    t = {};
    print("end");
}

SCENARIO("023_never_retrieved") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
