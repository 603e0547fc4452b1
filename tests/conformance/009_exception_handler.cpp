// Exceptions in callbacks go to the exception handler; the batch goes on.

#include "scenario.hpp"

namespace conformance {

/// A loop whose default handler prints.
class PrintingLoop final : public coil::EventLoop {
  public:
    using EventLoop::EventLoop;
    void default_exception_handler(const coil::ExceptionContext& context) override {
        print("default:", context.message);
    }
};

static std::unique_ptr<coil::EventLoop> printing_loop() {
    return std::make_unique<PrintingLoop>(backend() == "uring" ? coil::Backend::URING : coil::Backend::EPOLL);
}

static void bad(const char* text) { throw AppError(text); }

static void handler(coil::EventLoop&, const coil::ExceptionContext& context) {
    // The message goes on with the callback's name.
    constexpr std::string_view IN_CALLBACK = "Exception in callback";
    std::string_view message = context.message;
    if (message.starts_with(IN_CALLBACK)) message = IN_CALLBACK;
    std::string what = "no exception";
    if (context.exception) what = name_of(context.exception) + " " + text_of(context.exception);
    print("handler:", message, "|", what, "| has handle", yn(static_cast<bool>(context.handle)));
}

static void broken_handler(coil::EventLoop&, const coil::ExceptionContext&) {
    print("broken handler called");
    throw AppError("handler failed");
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    print("default handler set", yn(static_cast<bool>(loop.get_exception_handler())));
    loop.set_exception_handler(handler);
    auto* kept = loop.get_exception_handler().target<decltype(&handler)>();
    print("custom handler kept", yn(kept && *kept == handler));
    loop.call_soon(bad, "one");
    loop.call_soon(print, "next callback of the batch still runs");
    loop.call_later(20ms, bad, "two");
    co_await coil::sleep(50ms);

    loop.call_exception_handler({.message = "hand made message"});
    // An error inside a custom handler falls back to the default handler.
    loop.set_exception_handler(broken_handler);
    loop.call_soon(bad, "three");
    co_await coil::sleep(0s);
    co_await coil::sleep(0s);
    loop.set_exception_handler(nullptr);
    loop.call_exception_handler({.message = "to default"});
    print("end");
}

SCENARIO("009_exception_handler", "a virtual loop cannot be derived from") {
    coil::run(main(), {.loop_factory = printing_loop});
}

}  // namespace conformance
