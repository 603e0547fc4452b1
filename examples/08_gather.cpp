// Several awaitables at once: results in the order of the arguments, whatever the order in which they end.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

coil::Coro<std::string> slow_greeting() {
    co_await coil::sleep(40ms);
    fmt::print("greeting is ready\n");
    co_return "hello";
}

coil::Coro<int> quick_number() {
    co_await coil::sleep(10ms);
    fmt::print("number is ready\n");
    co_return 7;
}

coil::Coro<int> square(int n) { co_return n* n; }

coil::Coro<int> fail() {
    throw std::runtime_error("no luck");
    co_return 0;
}

coil::Coro<> collect() {
    auto [greeting, number] = co_await coil::gather(slow_greeting(), quick_number());
    fmt::print("{} {}\n", greeting, number);

    std::vector<coil::Coro<int>> squares;
    for (int i = 1; i <= 5; ++i) squares.push_back(square(i));
    std::vector<int> results = co_await coil::gather(std::move(squares));
    fmt::print("{}\n", fmt::join(results, " "));

    // Without return_exceptions, the first error would be thrown here, and the other would go on unobserved.
    auto [good, bad] = co_await coil::gather(coil::return_exceptions, square(6), fail());
    fmt::print("{}; {}\n", good.value(), coil::describe_exception(bad.exception()));
}

int main() { coil::run(collect()); }
