// A TaskGroup of a hundred tasks that do one sleep(0) each.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using namespace std::chrono_literals;

constexpr int CHILDREN = 100;

coil::Coro<> child() { co_await coil::sleep(0s); }

coil::Coro<> start_children(coil::TaskGroup& group) {
    for (int i = 0; i < CHILDREN; i++) group.create_task(child());
    co_return;
}

coil::Coro<> run_groups(int groups) {
    for (int i = 0; i < groups; i++) co_await coil::async_with(coil::TaskGroup(), start_children);
}

coil::Coro<> measure() {
    constexpr int GROUPS = 20'000;
    co_await run_groups(10);
    bench::Measurement measurement;
    co_await run_groups(GROUPS);
    measurement.report("taskgroup100", "child", double{CHILDREN} * GROUPS);
}

int main() { coil::run(measure()); }
