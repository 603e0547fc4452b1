// How many iterations of the loop separate a cause and its effect. tick() registers itself again in every iteration, so
// every number is a count of iterations.

#include "scenario.hpp"

namespace conformance {

struct Ticker {
    coil::EventLoop& loop;
    coil::Handle handle{};
    int ticks = 0;

    void tick() {
        ++ticks;
        handle = loop.call_soon(&Ticker::tick, this);
    }
};

template <class A>
static Coro<> measure(Ticker& ticker, const char* label, A awaitable) {
    ticker.ticks = 0;
    co_await std::move(awaitable);
    print(label, ticker.ticks);
}

static Coro<> nothing() { co_return; }

static Coro<> group() {
    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(nothing());
        co_return;
    });
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    Ticker ticker{loop};
    ticker.handle = loop.call_soon(&Ticker::tick, &ticker);
    co_await coil::sleep(0s);

    auto done = loop.create_future();
    done.set_result();
    co_await measure(ticker, "await done future", done);
    co_await measure(ticker, "await coroutine that never suspends", nothing());
    co_await measure(ticker, "sleep(0)", coil::sleep(0s));
    auto future = loop.create_future();
    loop.call_soon([&] { future.set_result(); });
    co_await measure(ticker, "future set by call_soon", future);
    co_await measure(ticker, "new task, no suspension", coil::create_task(nothing()));
    co_await measure(ticker, "new task, one sleep(0)", coil::create_task(coil::sleep(0s)));
    co_await measure(ticker, "gather of one", coil::gather(nothing()));
    co_await measure(ticker, "gather of three", coil::gather(nothing(), nothing(), nothing()));
    std::vector<coil::Task<>> tasks;
    tasks.push_back(coil::create_task(nothing()));
    co_await measure(ticker, "wait of one task", coil::wait(tasks));
    co_await measure(ticker, "shield of new task", coil::shield(coil::create_task(nothing())));
    co_await measure(ticker, "task group of one", group());
    coil::Event event;
    loop.call_soon(&coil::Event::set, &event);
    co_await measure(ticker, "event set by call_soon", event.wait());
    coil::Queue<int> queue;
    loop.call_soon(&coil::Queue<int>::put_nowait, &queue, 1);
    co_await measure(ticker, "queue get fed by call_soon", queue.get());
    ticker.handle.cancel();
}

SCENARIO("012_tick_latency") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
