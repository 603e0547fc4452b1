// run_in_executor: result, exception, custom pool, order with one worker, the loop keeps running meanwhile.

#include <array>
#include <functional>
#include <latch>
#include <stdexcept>
#include <thread>

#include "scenario.hpp"

namespace conformance {

namespace {

class AppError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

std::string blocking(std::latch& gate, std::string name) {
    gate.wait();
    return name;
}

void failing() { throw AppError("from thread"); }

Coro<> ticker() {
    for (int i = 0; i < 3; ++i) {
        co_await coil::sleep(20ms);
        print("tick", i);
    }
}

Coro<> main() {
    auto& loop = coil::get_running_loop();
    std::latch gate(1);
    auto future = loop.run_in_executor(nullptr, blocking, std::ref(gate), "blocking result");
    print("submitted, done", yn(future.done()));
    co_await ticker();
    gate.count_down();
    print(co_await future);

    try {
        co_await loop.run_in_executor(nullptr, failing);
    } catch (const AppError& e) {
        print("AppError", e.what());
    }

    auto other = co_await loop.run_in_executor(nullptr, std::this_thread::get_id);
    print("ran in another thread", yn(other != std::this_thread::get_id()));

    std::vector<std::string> order;
    {
        coil::ThreadPoolExecutor pool(1);
        std::vector<coil::Future<>> futures;
        for (int n = 0; n < 4; ++n)
            futures.push_back(
                loop.run_in_executor(&pool, [&order, n] { order.push_back(std::to_string(n)); }));
        co_await coil::gather(std::move(futures));
    }
    print("single worker order", join(order));

    {
        coil::ThreadPoolExecutor pool(3);
        std::latch a(1), b(1), c(1);
        std::array<std::latch*, 3> gates{&a, &b, &c};
        std::vector<coil::Future<std::string>> futures;
        for (std::size_t i = 0; i < gates.size(); ++i)
            futures.push_back(
                loop.run_in_executor(&pool, blocking, std::ref(*gates[i]), std::string(1, "abc"[i])));
        for (std::size_t i : {2u, 0u, 1u}) {  // finish out of order
            gates[i]->count_down();
            co_await futures[i];
        }
        print("gathered", join(co_await coil::gather(std::move(futures))));
    }
}

SCENARIO("140_executor", "a call blocks while the clock must go on") {
    coil::run(main(), {.loop_factory = new_loop});
}

}  // namespace

}  // namespace conformance
