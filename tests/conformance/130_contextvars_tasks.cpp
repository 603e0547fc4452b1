// Context variables: every task runs in a copy of its creator's context, taken at creation; changes do not leak between tasks
// or back to the parent.

#include "scenario.hpp"

namespace conformance {

static coil::ContextVar<std::string> var("var", "unset");

static Coro<> child(std::string name, std::string value) {
    print(name, "starts with", var.get());
    var.set(value);
    co_await coil::sleep(0s);
    print(name, "after sleep", var.get());
}

static Coro<> plain(std::string value) {
    var.set(value);
    co_return;
}

static Coro<> main() {
    var.set("main");
    auto a = coil::create_task(child("a", "A"));
    var.set("changed after creating a");
    auto b = coil::create_task(child("b", "B"));
    co_await coil::gather(a, b);
    print("main keeps", var.get());

    co_await plain("set by awaited coroutine");
    print("await shares the context:", var.get());
    co_await coil::create_task(plain("set in a task"));
    print("a task does not:", var.get());

    coil::Context context = coil::copy_context();
    co_await coil::create_task(child("c", "C"), {.context = &context});
    print("explicit context was modified:", context[var]);
    print("main still", var.get());

    auto token = var.set("temporary");
    print("temporary", var.get());
    var.reset(token);
    print("reset to", var.get());
    co_await coil::gather(child("g1", "1"), child("g2", "2"));
    print("after gather", var.get());
}

SCENARIO("130_contextvars_tasks") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
