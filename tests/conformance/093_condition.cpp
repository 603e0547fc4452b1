// Condition: notify(n), notify_all, wait_for, and errors without the lock.

#include "scenario.hpp"

namespace conformance {

static Coro<> waiter(std::string name, coil::Condition& cond) {
    auto held = co_await cond.scoped();
    print(name, "waits");
    bool r = co_await cond.wait();
    print(name, "woke", yn(r), "| lock held", yn(cond.locked()));
}

static Coro<> consumer(coil::Condition& cond, std::vector<int>& box) {
    auto held = co_await cond.scoped();
    bool ok = co_await cond.wait_for([&] { return box.size() >= 2; });
    print("predicate value", yn(ok), "size", box.size());
}

static Coro<> main() {
    coil::Condition cond;
    std::vector<coil::Task<>> waiters;
    for (const char* name : {"a", "b", "c", "d", "e"})
        waiters.push_back(coil::create_task(waiter(name, cond)));
    co_await coil::sleep(10ms);
    {
        auto held = co_await cond.scoped();
        cond.notify();
        print("notified one, still holding the lock");
        co_await coil::sleep(10ms);
        print("releasing");
    }
    co_await coil::sleep(10ms);
    {
        auto held = co_await cond.scoped();
        cond.notify(2);
    }
    co_await coil::sleep(10ms);
    {
        auto held = co_await cond.scoped();
        print("notify_all");
        cond.notify_all();
        cond.notify_all();
    }
    co_await coil::gather(waiters);

    try {
        cond.notify();
    } catch (const coil::RuntimeError& e) {
        print("notify -> RuntimeError:", e.what());
    }
    try {
        cond.notify_all();
    } catch (const coil::RuntimeError& e) {
        print("notify_all -> RuntimeError:", e.what());
    }
    try {
        co_await cond.wait();
    } catch (const coil::RuntimeError& e) {
        print("wait -> RuntimeError:", e.what());
    }

    std::vector<int> box;
    auto t = coil::create_task(consumer(cond, box));
    for (int i = 0; i < 3; ++i) {
        co_await coil::sleep(10ms);
        auto held = co_await cond.scoped();
        box.push_back(i);
        print("box size", box.size());
        cond.notify();
    }
    co_await t;
}

SCENARIO("093_condition") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
