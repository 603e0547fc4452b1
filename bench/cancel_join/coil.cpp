// Start a task, let it fall asleep, cancel it and join it; a hundred at a time.
#include <coil/coil.hpp>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

constexpr int BATCH = 100;

coil::Coro<> sleeper() { co_await coil::sleep(100s); }

coil::Coro<> cancel_batches(int batches) {
    for (int batch = 0; batch < batches; batch++) {
        std::vector<coil::Task<>> tasks;
        for (int i = 0; i < BATCH; i++) tasks.push_back(coil::create_task(sleeper()));
        co_await coil::sleep(0s);
        for (coil::Task<>& task : tasks) task.cancel();
        co_await coil::gather(coil::return_exceptions, std::move(tasks));
    }
}

coil::Coro<> measure() {
    constexpr int BATCHES = 2000;
    co_await cancel_batches(10);
    double start = now_ns();
    co_await cancel_batches(BATCHES);
    report("cancel_join", "task", (now_ns() - start) / (double{BATCH} * BATCHES));
}

int main() { coil::run(measure()); }
