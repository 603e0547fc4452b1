// Producer and consumers with a bounded queue and a sentinel.

#include <map>
#include <optional>

#include "scenario.hpp"

namespace conformance {

using Queue = coil::Queue<std::optional<int>>;
using Totals = std::map<std::string, int>;

static Coro<> producer(Queue& queue, int items, int consumers) {
    for (int i = 0; i < items; ++i) co_await queue.put(i);
    for (int i = 0; i < consumers; ++i) co_await queue.put(std::nullopt);
    print("producer done");
}

static Coro<> consumer(std::string name, Queue& queue, Totals& totals) {
    while (true) {
        std::optional<int> item = co_await queue.get();
        {
            OnExit last([&] { queue.task_done(); });
            if (!item) {
                print(name, "sentinel");
                co_return;
            }
            totals[name] += *item;
        }
        co_await coil::sleep(0s);
    }
}

static Coro<> main() {
    Queue queue(5);
    Totals totals;
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(producer(queue, 20, 2));
        tg.create_task(consumer("c1", queue, totals));
        tg.create_task(consumer("c2", queue, totals));
        co_return;
    });
    co_await queue.join();
    int sum = 0;
    for (const auto& [name, total] : totals) sum += total;
    print("sum", sum, "consumers", totals.size());
}

SCENARIO("115_producer_consumer") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
