// An asynchronous generator: co_yield gives values, co_await may stand between them.

#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::AsyncGenerator<int> ticks(int count) {
    struct Report {
        ~Report() { fmt::print("generator ends\n"); }
    } report;
    for (int i = 1; i <= count; ++i) {
        co_await coil::sleep(10ms);
        co_yield i;
    }
}

coil::Coro<> count() {
    auto three = ticks(3);
    while (auto tick = co_await three.next()) fmt::print("tick {}\n", *tick);

    auto many = ticks(1000);
    while (auto tick = co_await many.next()) {
        fmt::print("tick {} of many\n", *tick);
        if (*tick == 2) break;
    }
    // Without this the loop closes the generator, in a task of its own, some time after the handle is gone.
    co_await many.aclose();
    fmt::print("closed\n");
}

int main() { coil::run(count()); }
