// TaskGroup: an exception in the body cancels the children and is grouped; an error that a child throws while it is cancelled
// joins the group.

#include "scenario.hpp"

namespace conformance {

static Coro<> child(std::string name, coil::Duration delay, std::string on_cancel = {}) {
    auto slept = co_await coil::try_await(coil::sleep(10s));
    if (slept.cancelled()) {
        co_await coil::sleep(delay);
        print(name, "cleaned");
        if (!on_cancel.empty()) throw AppError(on_cancel);
    }
    slept.value();
}

static std::string in_brackets(const coil::ExceptionGroup& group) {
    std::vector<std::string> texts;
    for (const std::exception_ptr& error : group.exceptions()) texts.push_back("[" + text_of(error) + "]");
    return join(texts);
}

static Coro<> main() {
    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
            tg.create_task(child("a", 60ms));
            tg.create_task(child("b", 120ms, "b failed while cancelled"));
            co_await coil::sleep(30ms);
            print("body raises");
            throw AppError("body");
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<AppError>();
        print("errors:", in_brackets(errors.value()));
        if (others) throw *others;
    }

    // Children that have not begun are simply cancelled.
    coil::Task<> t;
    try {
        co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
            t = tg.create_task(child("never", 0s));
            throw AppError("immediately");
            co_return;
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<AppError>();
        print("errors:", in_brackets(errors.value()), "| child cancelled", yn(t.cancelled()));
        if (others) throw *others;
    }
}

SCENARIO("072_taskgroup_body_fails") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
