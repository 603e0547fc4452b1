// set_task_factory: every create_task goes through it, also gather's and TaskGroup's; an empty one restores the default.

#include "scenario.hpp"

namespace conformance {

template <class F>
concept AcceptedAsFactory = requires(coil::EventLoop& loop, F factory) { loop.set_task_factory(factory); };

static std::vector<coil::Task<>> made;

static coil::Task<> factory(coil::EventLoop& loop, coil::AnyCoro coro, const coil::TaskOptions& options) {
    coil::Task<> task(std::move(coro), loop, options);
    made.push_back(task);
    return task;
}

static Coro<std::string> job(std::string name) {
    co_await coil::sleep(0s);
    co_return name;
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    print("factory", loop.get_task_factory() ? "set" : "none");
    loop.set_task_factory(factory);
    auto* kept = loop.get_task_factory().target<decltype(&factory)>();
    print("factory is ours", yn(kept && *kept == factory));

    auto t = coil::create_task(job("a"), {.name = "named"});
    std::size_t after_first = made.size();
    print("made", after_first, "name", t.get_name(), "result", co_await t);
    auto [b, c] = co_await coil::gather(job("b"), job("c"));
    print(b, c, "| made", made.size());
    co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& tg) -> Coro<> {
        tg.create_task(job("d"));
        co_return;
    });
    print("made", made.size());
    co_await job("awaited directly");
    print("direct await makes no task:", made.size());

    loop.set_task_factory(nullptr);
    co_await coil::create_task(job("e"));
    print("after reset", made.size());
    // What Python refuses with a TypeError does not compile here.
    static_assert(AcceptedAsFactory<decltype(&factory)> && !AcceptedAsFactory<int>);
    print("bad factory -> TypeError");
    made.clear();
}

SCENARIO("042_task_factory") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
