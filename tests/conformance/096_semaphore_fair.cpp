// Fairness of Semaphore: a newcomer cannot overtake who waits already, and permits released together wake the queue in order.

#include "scenario.hpp"

namespace conformance {

static Coro<> worker(std::string name, coil::Semaphore& semaphore, coil::Duration hold = 120ms) {
    print(name, "asks");
    auto permit = co_await semaphore.scoped();
    print(name, "in");
    co_await coil::sleep(hold);
}

static Coro<> greedy(std::string name, coil::Semaphore& semaphore, int rounds) {
    for (int i = 0; i < rounds; ++i) {
        auto permit = co_await semaphore.scoped();
        print(name, "round", i);
        co_await coil::sleep(0s);
    }
}

static Coro<> main() {
    coil::Semaphore closed(0);
    std::vector<coil::Task<>> tasks;
    for (const char* name : {"a", "b", "c"}) tasks.push_back(coil::create_task(worker(name, closed)));
    co_await coil::sleep(0s);
    print("release, then a newcomer");
    closed.release();
    tasks.push_back(coil::create_task(worker("late", closed)));
    co_await coil::sleep(60ms);
    closed.release();
    co_await coil::gather(tasks);

    print("-- two greedy tasks alternate");
    coil::Semaphore one(1);
    co_await coil::gather(greedy("g1", one, 3), greedy("g2", one, 3));

    print("-- burst of releases");
    coil::Semaphore burst(0);
    tasks.clear();
    for (const char* name : {"x", "y", "z"}) tasks.push_back(coil::create_task(worker(name, burst, 0s)));
    co_await coil::sleep(0s);
    for (int i = 0; i < 3; ++i) burst.release();
    co_await coil::gather(tasks);
    print("permits back, locked", yn(burst.locked()));
}

SCENARIO("096_semaphore_fair") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
