// PriorityQueue and LifoQueue; priorities with consumers that wait.

#include <array>
#include <utility>

#include "scenario.hpp"

namespace conformance {

template <class Queue>
static Coro<> drain(std::string label, Queue& queue) {
    while (!queue.empty()) label += " " + std::to_string(co_await queue.get());
    print(label);
}

template <class Queue>
static Coro<> one_kind(std::string label) {
    Queue queue;
    for (int n : {3, 1, 4, 1, 5, 9, 2, 6}) queue.put_nowait(n);
    co_await drain(label, queue);
}

static Coro<> consumer(std::string name, coil::PriorityQueue<int>& queue) {
    print(name, "got", co_await queue.get());
}

static Coro<> main() {
    co_await one_kind<coil::Queue<int>>("fifo");
    co_await one_kind<coil::LifoQueue<int>>("lifo");
    co_await one_kind<coil::PriorityQueue<int>>("priority");

    using Item = std::pair<int, std::string>;
    const std::array<Item, 4> items{Item(2, "write"), Item(1, "plan"), Item(3, "test"), Item(1, "think")};
    coil::PriorityQueue<Item> pairs;
    for (const Item& item : items) pairs.put_nowait(item);
    while (!pairs.empty()) {
        auto [priority, name] = pairs.get_nowait();
        print("prio", priority, name);
    }

    // Python goes on with the queue that is empty now; here a queue has items of one type.
    coil::PriorityQueue<int> numbers;
    std::vector<coil::Task<>> consumers;
    for (const char* name : {"a", "b"}) consumers.push_back(coil::create_task(consumer(name, numbers)));
    co_await coil::sleep(0s);
    numbers.put_nowait(20);
    numbers.put_nowait(10);
    co_await coil::gather(consumers);

    coil::LifoQueue<std::string> two(2);
    two.put_nowait("old");
    two.put_nowait("new");
    const char* full = yn(two.full());
    print("lifo full", full, two.get_nowait());
}

SCENARIO("113_queue_kinds") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
