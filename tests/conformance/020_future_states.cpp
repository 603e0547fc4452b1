// A future's states: pending, then finished or cancelled; and the errors.

#include "scenario.hpp"

namespace conformance {

static void show(const char* label, const coil::Future<int>& future) {
    print(label, "done", yn(future.done()), "cancelled", yn(future.cancelled()));
}

template <class F>
static void attempt(const char* label, F f) {
    try {
        if constexpr (std::is_void_v<decltype(f())>) {
            f();
            print(label, "-> none");
        } else {
            print(label, "->", f());
        }
    } catch (...) {
        print(label, "->", name_of(std::current_exception()));
    }
}

static const char* exception_of(const coil::Future<int>& future) {
    return future.exception() ? "an exception" : "none";
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto f = loop.create_future<int>();
    show("new", f);
    attempt("result while pending", [&] { return f.result(); });
    attempt("exception while pending", [&] { return exception_of(f); });
    f.set_result(5);
    show("after set_result", f);
    attempt("result", [&] { return f.result(); });
    attempt("exception", [&] { return exception_of(f); });
    attempt("set_result again", [&] { f.set_result(6); });
    attempt("set_exception again", [&] { f.set_exception(AppError("x")); });
    print("cancel finished", yn(f.cancel()));
    print("same loop", yn(&f.get_loop() == &loop));

    auto g = loop.create_future<int>();
    g.set_exception(AppError("bad"));
    show("after set_exception", g);
    attempt("result", [&] { return g.result(); });
    print("exception type", name_of(g.exception()));
    print("cancel failed", yn(g.cancel()));

    auto h = loop.create_future<int>();
    print("cancel pending", yn(h.cancel()));
    print("cancel twice", yn(h.cancel()));
    show("after cancel", h);
    attempt("result", [&] { return h.result(); });
    attempt("exception", [&] { return exception_of(h); });
    attempt("set_result cancelled", [&] { h.set_result(1); });
    co_return;
}

SCENARIO("020_future_states") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
