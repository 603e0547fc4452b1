// Items handed from one task to another through a queue that holds one.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

coil::Coro<> produce(coil::Queue<int>& queue, int count) {
    for (int i = 0; i < count; i++) co_await queue.put(i);
}

coil::Coro<> consume(coil::Queue<int>& queue, int count) {
    long sum = 0;
    for (int i = 0; i < count; i++) sum += co_await queue.get();
    bench::keep(sum);
}

coil::Coro<> hand_over(int count) {
    coil::Queue<int> queue(1);
    co_await coil::gather(produce(queue, count), consume(queue, count));
}

coil::Coro<> measure() {
    constexpr int COUNT = 5'000'000;
    co_await hand_over(1000);
    bench::Measurement measurement;
    co_await hand_over(COUNT);
    measurement.report("queue_handover", "item", COUNT);
}

int main() { coil::run(measure()); }
