// The least program with a coroutine on a loop.

#include <chrono>
#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::Coro<int> hello() {
    fmt::print("hello\n");
    co_await coil::sleep(10ms);
    fmt::print("world\n");
    co_return 42;
}

int main() {
    int answer = coil::run(hello());
    fmt::print("the answer is {}\n", answer);
}
