// Queue::shutdown(immediate): drops the items in the queue; join() still waits for items taken but not marked done; shutdown is
// idempotent.

#include "scenario.hpp"

namespace conformance {

template <class T>
static Coro<> joiner(coil::Queue<T>& queue) {
    co_await queue.join();
    print("join returned");
}

static Coro<> main() {
    coil::Queue<int> numbers;
    for (int i = 0; i < 3; ++i) numbers.put_nowait(i);
    print("got", co_await numbers.get());
    auto j = coil::create_task(joiner(numbers));
    co_await coil::sleep(0s);
    numbers.shutdown(true);
    numbers.shutdown();
    print("size", numbers.qsize());
    try {
        co_await numbers.get();
    } catch (const coil::QueueShutDown&) {
        print("get QueueShutDown");
    }
    co_await coil::sleep(10ms);
    print("join waits for the item in progress", yn(!j.done()));
    numbers.task_done();
    co_await j;

    coil::Queue<std::string> one(1);
    one.put_nowait("only");
    j = coil::create_task(joiner(one));
    co_await coil::sleep(0s);
    one.shutdown(true);
    print("nothing in progress: join is released");
    co_await j;
    try {
        one.task_done();
    } catch (const coil::ValueError&) {
        print("task_done for a dropped item -> ValueError");
    }
}

SCENARIO("209_queue_shutdown_now") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
