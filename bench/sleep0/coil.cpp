// sleep(0): suspend, go to the back of the ready queue, resume; with one task and with many taking turns.
#include <coil/coil.hpp>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

coil::Coro<> take_turns(long turns) {
    for (long i = 0; i < turns; i++) co_await coil::sleep(0s);
}

coil::Coro<> measure_tasks(long tasks, long total) {
    long turns = total / tasks;
    std::vector<coil::Task<>> running;
    for (long i = 0; i < tasks; i++) running.push_back(coil::create_task(take_turns(turns)));
    double start = now_ns();
    for (coil::Task<>& task : running) co_await task;
    double took = now_ns() - start;
    report("sleep0", std::to_string(tasks).c_str(), took / static_cast<double>(tasks * turns));
}

coil::Coro<> measure() {
    for (long tasks : {1L, 100L, 10'000L}) co_await measure_tasks(tasks, 10'000'000);
}

int main() { coil::run(measure()); }
