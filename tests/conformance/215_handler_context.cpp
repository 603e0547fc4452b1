// The exception handler runs in the context of the task or callback at fault.

#include "scenario.hpp"

namespace conformance {

static coil::ContextVar<std::string> var("var", "unset");

static void bad_callback() { throw AppError("callback"); }

static Coro<> bad_task() {
    var.set("task context");
    throw AppError("task");
    co_return;
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext& context) {
        print("handler:", text_of(context.exception), "| sees", var.get());
    });
    var.set("callback context");
    loop.call_soon(bad_callback);
    var.set("main context");
    co_await coil::sleep(0s);
    {
        std::vector<coil::Task<>> tasks;
        tasks.push_back(coil::create_task(bad_task()));
        co_await coil::wait(tasks);
    }
    loop.call_exception_handler(
        {.message = "by hand", .exception = std::make_exception_ptr(AppError("by hand"))});
    print("main sees", var.get());
}

SCENARIO("215_handler_context") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
