// gather: results in the order of the arguments, whatever the order of completion; coroutines become tasks at the call, not at
// the await.

#include <algorithm>
#include <cctype>
#include <tuple>

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> job(std::string name, coil::Duration delay) {
    print(name, "start");
    co_await coil::sleep(delay);
    print(name, "done");
    std::ranges::transform(name, name.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
    co_return name;
}

static Coro<> main() {
    auto [a, b, c] = co_await coil::gather(job("a", 270ms), job("b", 90ms), job("c", 180ms));
    print("results", a, b, c);

    auto g = coil::gather(job("x", 0s), job("y", 0s));
    print("gather created, tasks", coil::all_tasks().size() - 1);
    co_await coil::sleep(60ms);
    print("gather done before await", yn(g.done()));
    auto [x, y] = co_await g;
    print("results", x, y);

    auto nothing = co_await coil::gather();
    print("empty gather", std::tuple_size_v<decltype(nothing)>);
    auto t = coil::create_task(job("dup", 30ms));
    auto [d1, d2, d3] = co_await coil::gather(t, t, t);
    print("duplicates", d1, d2, d3);

    auto f = coil::get_running_loop().create_future<std::string>();
    f.set_result("ready");
    auto [ready, m] = co_await coil::gather(f, job("m", 0s));
    print("mixed", ready, m);
}

SCENARIO("050_gather_order") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
