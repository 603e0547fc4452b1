// TaskGroup misuse: not entered, entered twice, finished, shutting down.

#include "scenario.hpp"

namespace conformance {

static Coro<> nothing() { co_return; }

/// The message without the group's description in front.
static std::string_view reason(const coil::RuntimeError& e) {
    std::string_view text = e.what();
    constexpr std::string_view GROUP = "TaskGroup ";
    if (text.starts_with(GROUP)) text.remove_prefix(GROUP.size());
    return text;
}

static void attempt(const char* label, coil::TaskGroup& tg) {
    try {
        tg.create_task(nothing());
        print(label, "-> ok");
    } catch (const coil::RuntimeError& e) {
        print(label, "-> RuntimeError:", reason(e));
    }
}

static Coro<> late_adder(coil::TaskGroup& tg) {
    OnExit last([&] { attempt("create while shutting down", tg); });
    co_await coil::sleep(10s);
}

static Coro<> main() {
    coil::TaskGroup tg;
    attempt("create before entering", tg);
    co_await coil::async_with(tg, nothing);
    attempt("create after leaving", tg);
    try {
        co_await coil::async_with(tg, []() -> Coro<> {
            print("not reached");
            co_return;
        });
    } catch (const coil::RuntimeError& e) {
        print("enter twice -> RuntimeError:", reason(e));
    }

    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg2) -> Coro<> {
            tg2.create_task(late_adder(tg2));
            co_await coil::sleep(10ms);
            throw AppError("stop");
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<AppError>();
        print("errors", texts_of(errors.value()));
        if (others) throw *others;
    }
}

SCENARIO("077_taskgroup_misuse") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
