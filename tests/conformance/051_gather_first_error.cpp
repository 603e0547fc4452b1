// gather: the first exception is thrown at once; siblings keep running and later failures are dropped silently.

#include "scenario.hpp"

namespace conformance {

static Coro<> settle() {
    for (int i = 0; i < 8; ++i) co_await coil::sleep(0s);
}

static Coro<> job(std::string name, coil::Future<> gate, bool fail = false) {
    try {
        co_await gate;
    } catch (const coil::CancelledError&) {
        print(name, "cancelled");
        throw;
    }
    print(name, fail ? "fails" : "succeeds");
    if (fail) throw AppError(name);
}

static Coro<> open_gates(std::vector<coil::Future<>> gates) {
    for (coil::Future<>& gate : gates) {
        co_await settle();
        gate.set_result();
    }
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    loop.set_exception_handler(
        [](coil::EventLoop&, const coil::ExceptionContext& context) { print("REPORT", context.message); });
    auto a = loop.create_future();
    auto b = loop.create_future();
    auto c = loop.create_future();
    auto opener = coil::create_task(open_gates({b, c, a}));
    try {
        co_await coil::gather(job("a", a), job("b", b, true), job("c", c, true));
    } catch (const AppError& e) {
        print("gather raised", e.what());
    }
    print("siblings still running", coil::all_tasks().size() - 2);
    co_await opener;
    co_await settle();
    print("siblings left", coil::all_tasks().size() - 1);

    // Cancelling a gather that already finished with an error does nothing.
    auto d = loop.create_future();
    auto e = loop.create_future();
    auto g = coil::gather(job("d", d), job("e", e, true));
    opener = coil::create_task(open_gates({e, d}));
    try {
        co_await g;
    } catch (const AppError& error) {
        print("gather raised", error.what());
    }
    print("late cancel", yn(g.cancel()));
    co_await opener;
    co_await settle();
    print("end");
}

SCENARIO("051_gather_first_error") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
