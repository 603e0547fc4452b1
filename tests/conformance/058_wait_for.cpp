// wait_for: success, time-out (waits for the cancellation to finish), no limit, zero, and awaitables that are done already.

#include <optional>

#include "scenario.hpp"

namespace conformance {

using Limit = std::optional<coil::Duration>;

static Coro<std::string> job(std::string name, coil::Duration delay, bool fail = false) {
    print(name, "start");
    auto slept = co_await coil::try_await(coil::sleep(delay));
    if (slept.cancelled()) {
        print(name, "cancelled");
        co_await coil::sleep(90ms);
        print(name, "cleanup done");
    }
    slept.value();
    if (fail) throw AppError(name);
    co_return name;
}

template <class A>
static Coro<> attempt(std::string label, A awaitable, Limit limit) {
    try {
        print(label, "->", co_await coil::wait_for(std::move(awaitable), limit));
    } catch (const coil::TimeoutError&) {
        print(label, "-> TimeoutError");
    } catch (const AppError& e) {
        print(label, "-> AppError", e.what());
    } catch (const coil::CancelledError&) {
        print(label, "-> CancelledError");
    }
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    co_await attempt("in time", job("a", 30ms), 1s);
    co_await attempt("no limit", job("b", 30ms), std::nullopt);
    co_await attempt("fails", job("c", 30ms, true), 1s);
    co_await attempt("too slow", job("d", 10s), 90ms);
    co_await attempt("zero timeout never starts it", job("e", 0s), 0s);
    for (auto [label, limit] :
         {std::pair("", 1s), std::pair(" zero timeout", 0s), std::pair(" negative", -1s)}) {
        auto f = loop.create_future<std::string>();
        f.set_result("ready");
        co_await attempt(std::string("done future") + label, f, limit);
    }
    auto f = loop.create_future<std::string>();
    f.set_exception(AppError("stored"));
    co_await attempt("failed future", f, 0s);
    f = loop.create_future<std::string>();
    co_await attempt("pending future", f, 60ms);
    print("future was cancelled", yn(f.cancelled()));
}

SCENARIO("058_wait_for") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
