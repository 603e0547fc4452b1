// ProcessPoolExecutor through run_in_executor (CPU work in other processes).

#include "coil/process_pool.hpp"

#include <unistd.h>

#include "scenario.hpp"

namespace conformance {

namespace process_pool {

std::int64_t cpu(std::int64_t n) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += i * i;
    return sum;
}

int pid() { return ::getpid(); }

}  // namespace process_pool

namespace {

Coro<> main() {
    auto& loop = coil::get_running_loop();
    coil::ProcessPoolExecutor pool(2);
    std::vector<coil::Future<std::int64_t>> futures;
    for (std::int64_t n : {10, 100, 1000})
        futures.push_back(loop.run_in_executor(&pool, coil::process_function<process_pool::cpu>, n));
    std::vector<std::string> results;
    for (std::int64_t result : co_await coil::gather(std::move(futures)))
        results.push_back(std::to_string(result));
    print("results", join(results));
    int other = co_await loop.run_in_executor(&pool, coil::process_function<process_pool::pid>);
    print("another process", yn(other != ::getpid()));
}

SCENARIO("144_process_pool") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace

}  // namespace conformance
