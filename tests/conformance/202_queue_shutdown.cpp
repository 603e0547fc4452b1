// Queue::shutdown: puts fail at once, gets take what is left first; callers that wait are released.

#include "scenario.hpp"

namespace conformance {

using Queue = coil::Queue<std::string>;

static Coro<> getter(std::string name, Queue& queue) {
    try {
        print(name, "got", co_await queue.get());
    } catch (const coil::QueueShutDown&) {
        print(name, "QueueShutDown");
    }
}

static Coro<> putter(std::string name, Queue& queue) {
    try {
        co_await queue.put(name);
        print(name, "put");
    } catch (const coil::QueueShutDown&) {
        print(name, "QueueShutDown");
    }
}

static Coro<> main() {
    Queue empty;
    auto getters = coil::gather(getter("a", empty), getter("b", empty));
    co_await coil::sleep(0s);
    empty.shutdown();
    co_await getters;

    Queue full(2);
    full.put_nowait("1");
    full.put_nowait("2");
    auto p = coil::create_task(putter("late", full));
    co_await coil::sleep(0s);
    full.shutdown();
    co_await p;
    for (int i = 0; i < 3; ++i) co_await getter("drain", full);
    try {
        full.put_nowait("1");
    } catch (const coil::QueueShutDown&) {
        print("put_nowait QueueShutDown");
    }
    try {
        full.get_nowait();
    } catch (const coil::QueueShutDown&) {
        print("get_nowait QueueShutDown");
    }
}

SCENARIO("202_queue_shutdown") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
