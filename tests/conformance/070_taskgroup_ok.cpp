// TaskGroup: waits for every child, children may add children, results stay readable after the block.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> leaf(std::string name, coil::Duration delay) {
    co_await coil::sleep(delay);
    print(name, "done");
    co_return name;
}

static Coro<std::string> parent(coil::TaskGroup& tg) {
    print("parent adds a child");
    auto t = tg.create_task(leaf("grandchild", 180ms), {.name = "gc"});
    print("child name", t.get_name());
    co_return "parent";
}

static Coro<> main() {
    coil::Task<std::string> a;
    coil::Task<std::string> p;
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
        a = tg.create_task(leaf("a", 90ms));
        p = tg.create_task(parent(tg));
        print("body ends; nothing started yet");
        co_return;
    });
    print("after block", a.result(), p.result());

    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup&) -> Coro<> {
        print("empty group body");
        co_return;
    });
    print("empty group left without suspending");

    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& outer) -> Coro<> {
        co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& inner) -> Coro<> {
            outer.create_task(leaf("outer task", 150ms));
            inner.create_task(leaf("inner task", 60ms));
            co_return;
        });
        print("inner block left");
    });
    print("outer block left");
}

SCENARIO("070_taskgroup_ok") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
