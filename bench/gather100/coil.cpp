// gather() of a hundred coroutines that do one sleep(0) each.
#include <coil/coil.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using namespace std::chrono_literals;

constexpr int CHILDREN = 100;

coil::Coro<> child() { co_await coil::sleep(0s); }

coil::Coro<> gather_batches(int batches) {
    for (int batch = 0; batch < batches; batch++) {
        std::vector<coil::Coro<>> children;
        children.reserve(CHILDREN);
        for (int i = 0; i < CHILDREN; i++) children.push_back(child());
        co_await coil::gather(std::move(children));
    }
}

coil::Coro<> measure() {
    constexpr int BATCHES = 20'000;
    co_await gather_batches(10);
    bench::Measurement measurement;
    co_await gather_batches(BATCHES);
    measurement.report("gather100", "child", double{CHILDREN} * BATCHES);
}

int main() { coil::run(measure()); }
