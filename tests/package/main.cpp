#include <chrono>
#include <coil/coil.hpp>

coil::Coro<int> answer() {
    co_await coil::sleep(std::chrono::milliseconds(1));
    co_return 42;
}

int main() { return coil::run(answer()) == 42 ? 0 : 1; }
