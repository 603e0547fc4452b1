// Cancelling a task throws CancelledError at its co_await. C++ allows no co_await in a catch block: cleanup that waits
// is done with finally(), or with try_await() and a look at the outcome.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <vector>

using namespace std::chrono_literals;

coil::Coro<> send_goodbye() {
    co_await coil::sleep(10ms);
    fmt::print("session: said goodbye\n");
}

coil::Coro<> session() {
    // The cleanup runs after success, an error or a cancellation; the body's outcome is kept.
    co_await coil::finally(
        []() -> coil::Coro<> {
            fmt::print("session: open\n");
            co_await coil::sleep(1h);
        },
        send_goodbye);
}

coil::Coro<> stubborn() {
    auto outcome = co_await coil::try_await(coil::sleep(1h));
    if (outcome.cancelled()) {
        fmt::print("stubborn: one last thing\n");
        co_await coil::sleep(10ms);
    }
    // Throws CancelledError again. Without it, the task would end as if nothing had happened.
    outcome.value();
    fmt::print("stubborn: never reached\n");
}

coil::Coro<> supervise() {
    coil::Task<> first = coil::create_task(session());
    coil::Task<> second = coil::create_task(stubborn());
    co_await coil::sleep(10ms);

    first.cancel("closing time");
    try {
        co_await first;
    } catch (const coil::CancelledError& e) {  // no std::exception: a handler for those lets it pass
        fmt::print("session was cancelled: {}\n", e.message());
    }

    second.cancel();
    // wait() throws nothing, however the task ends. The list is named first: GCC 12 fails
    // on braces inside co_await.
    std::vector<coil::Task<>> tasks{second};
    co_await coil::wait(tasks);
    fmt::print("stubborn was cancelled: {}\n", second.cancelled());
}

int main() { coil::run(supervise()); }
