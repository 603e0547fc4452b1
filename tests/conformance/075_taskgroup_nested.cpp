// Nested groups: an inner failure becomes one nested ExceptionGroup of the outer one; handling it inside keeps the outer group
// alive.

#include "scenario.hpp"

namespace conformance {

static Coro<> fail(std::string name, coil::Duration delay) {
    co_await coil::sleep(delay);
    throw AppError(name);
}

static Coro<> linger(std::string name) {
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print(name, "cancelled");
        throw;
    }
}

static Coro<> inner_group() {
    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(fail("inner error", 60ms));
        tg.create_task(linger("inner sibling"));
        co_return;
    });
}

static void flatten(const coil::ExceptionGroup& group, std::size_t depth = 0) {
    std::string indent(2 * depth, ' ');
    for (const std::exception_ptr& error : group.exceptions()) {
        try {
            std::rethrow_exception(error);
        } catch (const coil::ExceptionGroup& nested) {
            print(indent + "group:");
            flatten(nested, depth + 1);
        } catch (const std::exception& e) {
            print(indent + name_of(e), e.what());
        }
    }
}

static Coro<> main() {
    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
            tg.create_task(inner_group());
            tg.create_task(linger("outer sibling"));
            co_return;
        });
    } catch (const coil::ExceptionGroup& group) {
        flatten(group);
    }

    coil::Task<const char*> survivor;
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
        survivor = tg.create_task<const char*>(coil::sleep(150ms, "survivor"));
        try {
            co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg2) -> Coro<> {
                tg2.create_task(fail("handled", 30ms));
                co_await coil::sleep(10s);
            });
        } catch (const coil::ExceptionGroup& group) {
            auto [errors, others] = group.split<AppError>();
            print("handled inside:", texts_of(errors.value()));
            if (others) throw *others;
        }
        print("outer body continues");
    });
    print(survivor.result());
}

SCENARIO("075_taskgroup_nested") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
