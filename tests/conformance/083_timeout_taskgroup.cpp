// A time limit around a TaskGroup, and one inside a child.

#include "scenario.hpp"

namespace conformance {

static Coro<> child(std::string name, coil::Duration delay) {
    try {
        co_await coil::sleep(delay);
        print(name, "done");
    } catch (const coil::CancelledError&) {
        print(name, "cancelled");
        throw;
    }
}

static Coro<> limited(std::string name, coil::Duration limit) {
    co_await coil::async_with(coil::timeout(limit), [&] { return child(name, 10s); });
}

static Coro<> handles() {
    try {
        co_await limited("handled", 60ms);
    } catch (const coil::TimeoutError&) {
        print("handled inside the child");
    }
}

static Coro<> main() {
    try {
        co_await coil::async_with(coil::timeout(150ms), []() -> Coro<> {
            co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
                tg.create_task(child("quick", 60ms));
                tg.create_task(child("slow", 10s));
                co_return;
            });
        });
    } catch (const coil::TimeoutError&) {
        print("group timed out: plain TimeoutError");
    }

    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
            tg.create_task(limited("limited", 60ms));
            tg.create_task(child("sibling", 10s));
            co_return;
        });
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<coil::TimeoutError>();
        print("child timed out: group of", errors.value().exceptions().size());
        if (others) throw *others;
    }

    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(handles());
        tg.create_task(child("unaffected", 150ms));
        co_return;
    });

    try {
        co_await coil::async_with(coil::timeout(90ms), []() -> Coro<> {
            try {
                co_await coil::sleep(10s);
            } catch (const coil::CancelledError&) {
                throw AppError("other error wins");
            }
        });
    } catch (const AppError& e) {
        print("AppError:", e.what());
    }
}

SCENARIO("083_timeout_taskgroup") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
