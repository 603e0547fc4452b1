// wait(): the three return_when modes; it never throws the tasks' errors and never cancels anything.

#include <algorithm>

#include "scenario.hpp"

namespace conformance {

using Job = coil::Task<std::string>;

static Coro<std::string> job(std::string name, coil::Duration delay, bool fail) {
    co_await coil::sleep(delay);
    if (fail) throw AppError(name);
    co_return name;
}

static std::string names(const std::vector<Job>& tasks) {
    std::vector<std::string> names;
    for (const Job& task : tasks) names.push_back(task.get_name());
    std::ranges::sort(names);
    return names.empty() ? "none" : join(names, ",");
}

struct Spec {
    const char* name;
    coil::Duration delay;
    bool fail = false;
};

static std::vector<Job> spawn(const std::vector<Spec>& specs) {
    std::vector<Job> tasks;
    for (const Spec& spec : specs)
        tasks.push_back(coil::create_task(job(spec.name, spec.delay, spec.fail), {.name = spec.name}));
    return tasks;
}

static Coro<> run(const char* label, const std::vector<Spec>& specs, coil::WaitOptions options = {}) {
    std::vector<Job> tasks = spawn(specs);
    auto [done, pending] = co_await coil::wait(tasks, options);
    print(label, "| done", names(done), "| pending", names(pending));
    for (Job& task : pending) task.cancel();
    co_await coil::gather(coil::return_exceptions, tasks);
}

static Coro<> main() {
    const std::vector<Spec> plain{{"a", 90ms}, {"b", 180ms}, {"c", 270ms}};
    const std::vector<Spec> failing{{"a", 90ms}, {"b", 180ms, true}, {"c", 270ms}};
    co_await run("ALL_COMPLETED", failing);
    co_await run("FIRST_COMPLETED", plain, {.return_when = coil::FIRST_COMPLETED});
    co_await run("FIRST_EXCEPTION", failing, {.return_when = coil::FIRST_EXCEPTION});
    co_await run("FIRST_EXCEPTION none fails", plain, {.return_when = coil::FIRST_EXCEPTION});
    co_await run("timeout", plain, {.timeout = 135ms});
    co_await run("timeout zero", plain, {.timeout = 0s});

    const std::vector<Spec> last{{"x", 180ms}, {"y", 10s}};
    std::vector<Job> tasks = spawn(last);
    coil::get_running_loop().call_later(60ms, [y = tasks[1]]() mutable { y.cancel(); });
    auto [done, pending] = co_await coil::wait(tasks, {.return_when = coil::FIRST_EXCEPTION});
    print("a cancelled task is no exception | done", names(done));
    try {
        std::vector<Job> none;
        co_await coil::wait(none);
    } catch (const coil::ValueError& e) {
        print("empty ->", name_of(e));
    }
}

SCENARIO("054_wait_modes") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
