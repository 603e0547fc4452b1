// Resident memory of a sleeping task.
#include <coil/coil.hpp>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

coil::Coro<> sleeper() { co_await coil::sleep(1h); }

coil::Coro<> measure() {
    constexpr int TASKS = 1'000'000;
    double before = bench::resident_bytes();
    for (int i = 0; i < TASKS; i++) (void)coil::create_task(sleeper());
    co_await coil::sleep(0s);
    co_await coil::sleep(0s);
    report("sleeping_task_bytes", "1M", (bench::resident_bytes() - before) / TASKS);
    _exit(0);  // cancelling them is another benchmark
}

int main() { coil::run(measure()); }
