// Queue(maxsize): put waits while it is full, get while it is empty; the order of items and of waiting tasks.

#include "scenario.hpp"

namespace conformance {

static Coro<> producer(std::string name, coil::Queue<int>& queue, std::vector<int> items) {
    for (int item : items) {
        print(name, "puts", item);
        co_await queue.put(item);
        print(name, "put", item, "size", queue.qsize());
    }
}

static Coro<> consumer(std::string name, coil::Queue<std::string>& queue) {
    print(name, "got", co_await queue.get());
}

static Coro<> main() {
    coil::Queue<int> queue(2);
    print("maxsize", queue.maxsize(), "empty", yn(queue.empty()));
    auto p1 = coil::create_task(producer("p1", queue, {1, 2, 3, 4}));
    auto p2 = coil::create_task(producer("p2", queue, {10}));
    co_await coil::sleep(30ms);
    print("full", yn(queue.full()));
    for (int i = 0; i < 5; ++i) {
        print("got", co_await queue.get());
        co_await coil::sleep(30ms);
    }
    co_await coil::gather(p1, p2);

    print("-- blocked getters are served in order");
    coil::Queue<std::string> letters(2);
    auto consumers = coil::gather(consumer("a", letters), consumer("b", letters), consumer("c", letters));
    co_await coil::sleep(0s);
    letters.put_nowait("x");
    letters.put_nowait("y");
    co_await coil::sleep(30ms);
    letters.put_nowait("z");
    co_await consumers;

    coil::Queue<int> unbounded;
    for (int i = 0; i < 100; ++i) unbounded.put_nowait(i);
    print("unbounded size", unbounded.qsize(), "full", yn(unbounded.full()));
}

SCENARIO("110_queue_bounded") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
