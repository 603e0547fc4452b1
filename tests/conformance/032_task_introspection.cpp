// current_task, all_tasks, names of tasks.

#include <algorithm>

#include "scenario.hpp"

namespace conformance {

static std::string names() {
    std::vector<std::string> names;
    for (const coil::Task<>& task : coil::all_tasks()) names.push_back(task.get_name());
    std::ranges::sort(names);
    return join(names, ",");
}

static Coro<> child() {
    print("inside", coil::current_task().get_name());
    co_await coil::sleep(0s);
    print("inside again", coil::current_task().get_name());
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::current_task().set_name("root");
    print("current", coil::current_task().get_name());
    auto t = coil::create_task(child(), {.name = "kid"});
    auto u = coil::create_task(child());
    u.set_name("renamed");
    auto v = coil::create_task(child(), {.name = "to-cancel"});
    print("all", names());
    v.cancel();
    print("cancel requested, still listed", names());
    co_await t;
    co_await u;
    print("after", names());

    auto auto1 = coil::create_task(coil::sleep(0s));
    auto auto2 = coil::create_task(coil::sleep(0s));
    std::string n1 = auto1.get_name();
    std::string n2 = auto2.get_name();
    print("default prefix", yn(n1.starts_with("Task-")));
    print("consecutive", yn(std::stoi(n2.substr(5)) == std::stoi(n1.substr(5)) + 1));
    co_await coil::gather(auto1, auto2);

    loop.call_soon([] {
        coil::Task<> current = coil::current_task();
        print("current in callback", current ? current.get_name() : "none");
    });
    co_await coil::sleep(0s);
}

SCENARIO("032_task_introspection") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
