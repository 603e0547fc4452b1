// Queue: join waits until the items are worked off (task_done), not until the queue is empty.

#include "scenario.hpp"

namespace conformance {

using Queue = coil::Queue<std::string>;

static Coro<> worker(Queue& queue) {
    while (true) {
        std::string item = co_await queue.get();
        print("processing", item);
        co_await coil::sleep(60ms);
        print("processed", item);
        queue.task_done();
    }
}

static Coro<> joiner(std::string name, Queue& queue) {
    co_await queue.join();
    print(name, "join returned");
}

static Coro<> main() {
    Queue queue;
    co_await queue.join();
    print("join on a fresh queue returns at once");
    auto w = coil::create_task(worker(queue));
    for (const char* item : {"a", "b", "c"}) queue.put_nowait(item);
    auto j1 = coil::create_task(joiner("j1", queue));
    auto j2 = coil::create_task(joiner("j2", queue));
    co_await coil::gather(j1, j2);
    print("empty", yn(queue.empty()));

    queue.put_nowait("d");
    co_await coil::sleep(30ms);
    print("queue empty", yn(queue.empty()), "but not joined");
    co_await queue.join();
    print("joined again");
    w.cancel();
    std::vector<coil::Task<>> workers{w};
    co_await coil::wait(workers);
    print("worker cancelled", yn(w.cancelled()));
}

SCENARIO("112_queue_join") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
