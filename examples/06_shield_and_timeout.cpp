// Time limits cancel what they limit; shield() keeps that from a task that must go on.

#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::Coro<int> save_file() {
    co_await coil::sleep(60ms);
    fmt::print("saved\n");
    co_return 3;
}

coil::Coro<> work() {
    // Keep a handle of what is shielded: when the wait is over, it is the only way to its result.
    coil::Task<int> saving = coil::create_task(save_file());
    try {
        co_await coil::wait_for(coil::shield(saving), 20ms);
    } catch (const coil::TimeoutError&) {
        fmt::print("no time to wait; still saving: {}\n", !saving.done());
    }
    int files = co_await saving;
    fmt::print("{} files\n", files);

    // A limit on a whole block, moved while it runs.
    try {
        co_await coil::async_with(coil::timeout(1h), [](coil::Timeout& limit) -> coil::Coro<> {
            fmt::print("an hour is plenty\n");
            limit.reschedule(coil::get_running_loop().time() + 10ms);
            co_await coil::sleep(30min);
        });
    } catch (const coil::TimeoutError&) {
        fmt::print("it was not\n");
    }
}

int main() { coil::run(work()); }
