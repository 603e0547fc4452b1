// shutdown_default_executor waits for running work and forbids new default work; an explicit pool still works; run() does this
// shutdown itself.

#include <latch>
#include <thread>

#include "scenario.hpp"

namespace conformance {

namespace {

std::vector<std::string> finished;  // by one thread at a time

std::string work(std::string name, std::chrono::milliseconds delay) {
    std::this_thread::sleep_for(delay);
    finished.push_back(name);
    return name;
}

Coro<> main() {
    auto& loop = coil::get_running_loop();
    std::latch gate(1);
    auto gated = [&gate] {
        gate.wait();
        return work("slow job", 0ms);
    };
    auto future = loop.run_in_executor(nullptr, gated);
    loop.call_later(50ms, [&gate] { gate.count_down(); });
    print("finished before shutdown", finished.size());
    co_await loop.shutdown_default_executor();
    print("finished after shutdown", join(finished));
    print("future", co_await future);
    try {
        co_await loop.run_in_executor(nullptr, work, "late", 0ms);
    } catch (const coil::RuntimeError& e) {
        print("RuntimeError:", e.what());
    }
    coil::ThreadPoolExecutor pool(1);
    print("own pool", co_await loop.run_in_executor(&pool, work, "own", 0ms));
}

Coro<> leaves_work_running() {
    auto future = coil::get_running_loop().run_in_executor(nullptr, work, "joined by run", 150ms);
    print("main returns first");
    co_return;
}

SCENARIO("143_executor_shutdown", "a call blocks while the clock must go on") {
    coil::run(main(), {.loop_factory = new_loop});
    finished.clear();
    coil::run(leaves_work_running(), {.loop_factory = new_loop});
    print("after run:", join(finished));
}

}  // namespace

}  // namespace conformance
