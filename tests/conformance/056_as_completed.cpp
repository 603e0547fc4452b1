// as_completed: results in the order of completion; errors come out of the await; a cancelled child gives CancelledError.

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> job(std::string name, coil::Duration delay, bool fail = false) {
    co_await coil::sleep(delay);
    if (fail) throw AppError(name);
    co_return name;
}

static Coro<> main() {
    std::vector<Coro<std::string>> jobs;
    jobs.push_back(job("slow", 270ms));
    jobs.push_back(job("fast", 90ms));
    jobs.push_back(job("middle", 180ms));
    auto all = coil::as_completed(std::move(jobs));
    for (auto& next : all) print("got", co_await next);

    auto victim = coil::create_task(job("victim", 10s));
    coil::get_running_loop().call_later(135ms, [victim]() mutable { victim.cancel(); });
    // Coroutines and tasks are not of one type: tasks all.
    std::vector<coil::Task<std::string>> three{coil::create_task(job("ok", 210ms)), victim,
                                               coil::create_task(job("bad", 60ms, true))};
    int count = 0;
    auto completed = coil::as_completed(three);
    for (auto& next : completed) {
        ++count;
        try {
            print(count, "value", co_await next);
        } catch (const AppError& e) {
            print(count, "AppError", e.what());
        } catch (const coil::CancelledError&) {
            print(count, "CancelledError");
        }
    }

    // Leaving the loop early leaves the rest running.
    std::vector<coil::Task<std::string>> tasks{coil::create_task(job("p", 60ms)),
                                               coil::create_task(job("q", 180ms))};
    auto first = coil::as_completed(tasks);
    for (auto& next : first) {
        print("first only", co_await next);
        break;
    }
    print("q still running", yn(!tasks[1].done()));
    print("q later", co_await tasks[1]);
}

SCENARIO("056_as_completed") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
