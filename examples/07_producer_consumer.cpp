// A bounded Queue between tasks of one TaskGroup. shutdown() tells the consumers that nothing more will come.

#include <coil/coil.hpp>
#include <fmt/core.h>

coil::Coro<> produce(coil::Queue<int>& queue, int count) {
    for (int i = 1; i <= count; ++i) {
        co_await queue.put(i);  // waits while the queue is full
        fmt::print("put {}\n", i);
    }
    queue.shutdown();
}

coil::Coro<int> consume(coil::Queue<int>& queue) {
    int sum = 0;
    try {
        for (;;) {
            int item = co_await queue.get();
            fmt::print("got {}\n", item);
            sum += item;
        }
    } catch (const coil::QueueShutDown&) {
        co_return sum;
    }
}

coil::Coro<> factory() {
    coil::Queue<int> queue(2);
    coil::Task<int> consumer;
    // The block ends when all of its tasks have: references to what surrounds it are safe.
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& group) -> coil::Coro<> {
        group.create_task(produce(queue, 5));
        consumer = group.create_task(consume(queue));
        co_return;
    });
    fmt::print("sum {}\n", consumer.result());
}

int main() { coil::run(factory()); }
