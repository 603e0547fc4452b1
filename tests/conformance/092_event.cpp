// Event: set wakes every waiter, clear re-arms, set is idempotent; a waiter woken by set() returns even if clear() follows
// immediately.

#include "scenario.hpp"

namespace conformance {

static Coro<> waiter(std::string name, coil::Event& event) {
    print(name, "waits");
    bool result = co_await event.wait();
    print(name, "woke", yn(result), "| set now", yn(event.is_set()));
}

static std::vector<coil::Task<>> spawn(std::string_view names, coil::Event& event) {
    std::vector<coil::Task<>> tasks;
    for (char name : names) tasks.push_back(coil::create_task(waiter(std::string(1, name), event)));
    return tasks;
}

static Coro<> main() {
    coil::Event event;
    auto tasks = spawn("abc", event);
    co_await coil::sleep(0s);
    print("set");
    event.set();
    event.set();
    print("nobody resumed yet");
    co_await coil::gather(tasks);
    print("already set: returns without suspending");
    coil::get_running_loop().call_soon(print, "callback");
    co_await event.wait();
    print("main passed before the callback");
    co_await coil::sleep(0s);

    event.clear();
    tasks = spawn("de", event);
    co_await coil::sleep(0s);
    event.set();
    event.clear();
    co_await coil::gather(tasks);

    tasks = spawn("fg", event);
    co_await coil::sleep(0s);
    tasks[0].cancel();
    co_await coil::sleep(0s);
    event.set();
    co_await coil::wait(tasks);
    print("f cancelled", yn(tasks[0].cancelled()));
}

SCENARIO("092_event") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
