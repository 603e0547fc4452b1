// to_thread: arguments, context propagation, exceptions, cancelling the await does not stop the thread.

#include <atomic>
#include <functional>
#include <latch>
#include <stdexcept>

#include "scenario.hpp"

namespace conformance {

namespace {

coil::ContextVar<std::string> variable("var", "unset");

class AppError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

int work(int a, int b, int scale) { return (a + b) * scale; }

std::string read_variable() {
    std::string seen = variable.get();
    variable.set("changed in thread");
    return seen;
}

void fail() { throw AppError("thread failed"); }

void slow(std::latch& gate, std::atomic<bool>& finished) {
    gate.wait();
    finished = true;
}

Coro<> main() {
    print("result", co_await coil::to_thread(work, 1, 2, 10));
    variable.set("from main");
    print("thread sees", co_await coil::to_thread(read_variable));
    print("main still has", variable.get());
    try {
        co_await coil::to_thread(fail);
    } catch (const AppError& e) {
        print("AppError", e.what());
    }

    std::atomic<bool> finished = false;
    std::latch gate(1);
    auto task = coil::create_task(coil::to_thread(slow, std::ref(gate), std::ref(finished)));
    co_await coil::sleep(50ms);
    task.cancel();
    try {
        co_await task;
    } catch (const coil::CancelledError&) {
        print("await cancelled, thread finished", yn(finished));
    }
    gate.count_down();
    while (!finished) co_await coil::sleep(10ms);
    print("later: thread finished");

    std::vector<Coro<int>> calls;
    for (int i = 0; i < 4; ++i) calls.push_back(coil::to_thread(work, i, i, 1));
    std::vector<std::string> results;
    for (int result : co_await coil::gather(std::move(calls))) results.push_back(std::to_string(result));
    print("gather", join(results));
}

SCENARIO("141_to_thread", "a call blocks while the clock must go on") {
    coil::run(main(), {.loop_factory = new_loop});
}

}  // namespace

}  // namespace conformance
