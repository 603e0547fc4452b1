// create_task with eager_start and without an eager factory, and eager_start = false under the eager factory.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> quick(std::string name) {
    print(name, "runs");
    co_return name;
}

static Coro<> suspending(std::string name) {
    print(name, "before");
    co_await coil::sleep(0s);
    print(name, "after");
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto a = coil::create_task(quick("a"), {.name = "task-a", .eager_start = true});
    print("a done", yn(a.done()), a.get_name());
    auto b = coil::create_task(quick("b"));
    print("b done", yn(b.done()));
    co_await b;
    coil::Task<> c;
    coil::Task<> d;
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
        c = tg.create_task(suspending("c"), {.eager_start = true});
        d = tg.create_task(suspending("d"));
        print("c started inside create_task; done", yn(c.done()));
        co_return;
    });
    print("group left", yn(c.done() && d.done()));

    loop.set_task_factory(coil::eager_task_factory);
    auto e = coil::create_task(quick("e"), {.eager_start = false});
    print("e done", yn(e.done()));
    co_await e;
}

SCENARIO("211_eager_start") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
