// Asynchronous generators: aclose runs their cleanup; run closes the ones that are still open; errors there reach the
// exception handler.

#include <optional>

#include "scenario.hpp"

namespace conformance {

static coil::AsyncGenerator<int> numbers(std::string name, bool fail = false) {
    // `finally` with an await: what ended the loop is kept, and thrown again after the cleanup.
    std::exception_ptr ended;
    try {
        for (int i = 0; i < 10; ++i) {
            co_yield i;
            co_await coil::sleep(0s);
        }
    } catch (...) {
        ended = std::current_exception();
    }
    print(name, "finally begins");
    co_await coil::sleep(10ms);
    print(name, "finally ends");
    if (fail) throw AppError(name);
    if (ended) std::rethrow_exception(ended);
}

static std::optional<coil::AsyncGenerator<int>> left_open;

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext& context) {
        print("handler:", name_of(context.exception), text_of(context.exception));
    });
    auto g = numbers("explicit");
    while (auto i = co_await g.next()) {
        print("item", *i);
        if (*i == 2) break;
    }
    co_await g.aclose();
    print("closed explicitly");

    int total = 0;
    auto all = numbers("exhausted");
    while (auto i = co_await all.next()) total += *i;
    print("exhausted, total", total);

    left_open = numbers("left open", true);
    print("first item", *co_await left_open->next());
    print("main returns");
}

SCENARIO("124_asyncgen_shutdown") {
    coil::run(main(), {.loop_factory = new_loop});
    print("run returned");
}

}  // namespace conformance
