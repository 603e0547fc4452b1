// Lock: handed over in order of arrival, no barging, released by anyone; errors.

#include "scenario.hpp"

namespace conformance {

static Coro<> worker(std::string name, coil::Lock& lock) {
    print(name, "wants");
    {
        auto held = co_await lock.scoped();
        print(name, "has it");
        co_await coil::sleep(10ms);
    }
    print(name, "released");
}

static Coro<> main() {
    coil::Lock lock;
    print("locked", yn(lock.locked()));
    bool acquired = co_await lock.acquire();
    print("acquire returns", yn(acquired), "locked", yn(lock.locked()));
    std::vector<coil::Task<>> tasks;
    for (const char* name : {"a", "b", "c"}) tasks.push_back(coil::create_task(worker(name, lock)));
    co_await coil::sleep(10ms);
    print("main releases");
    lock.release();
    // The lock is free for the first waiter in the queue: main must queue up.
    print("free but promised, locked", yn(lock.locked()));
    co_await lock.acquire();
    print("main has it again, after everyone who was waiting");
    lock.release();
    co_await coil::gather(tasks);
    try {
        lock.release();
    } catch (const coil::RuntimeError& e) {
        print("release unlocked -> RuntimeError:", e.what());
    }

    // An acquire without contention does not suspend.
    coil::EventLoop& loop = coil::get_running_loop();
    loop.call_soon(print, "callback");
    co_await lock.acquire();
    print("acquired before the callback ran");
    loop.call_soon(&coil::Lock::release, &lock);
    co_await coil::async_with(lock, []() -> Coro<> {
        print("released by a callback");
        co_return;
    });
}

SCENARIO("090_lock_fifo") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
