// as_completed by next() gives the tasks themselves, already done.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> job(std::string name, coil::Duration delay, bool fail = false) {
    co_await coil::sleep(delay);
    if (fail) throw AppError(name);
    co_return name;
}

static Coro<> main() {
    using Tasks = std::vector<coil::Task<std::string>>;
    Tasks tasks{coil::create_task(job("a", 180ms)), coil::create_task(job("b", 90ms, true)),
                coil::create_task(job("c", 270ms))};
    const char* names[] = {"first task", "second task", "third task"};
    auto all = coil::as_completed(tasks);
    while (auto task = co_await all.next()) {
        std::string label;
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            if (tasks[i] == *task) label = names[i];
        }
        label += task->done() ? " done" : " not done";
        try {
            print(label, "value", co_await *task);
        } catch (const AppError& e) {
            print(label, "AppError", e.what());
        }
    }

    Tasks two{coil::create_task(job("x", 60ms)), coil::create_task(job("y", 600ms))};
    try {
        auto in_time = coil::as_completed(two, {.timeout = 240ms});
        while (auto task = co_await in_time.next()) print("in time", task->result());
    } catch (const coil::TimeoutError&) {
        print("TimeoutError ends the loop; y running", yn(!two[1].done()));
    }
    print(co_await two[1]);
}

SCENARIO("203_as_completed_async") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
