// /bin/true started and waited for, one after another: from a small process, and from one that uses a gibibyte.
#include <coil/coil.hpp>

#include <cstdlib>

#include "../common/bench.hpp"

coil::Coro<> spawn(long count) {
    for (long i = 0; i < count; i++) {
        auto process = co_await coil::create_subprocess_exec("/bin/true");
        if (co_await process.wait() != 0) std::abort();
    }
}

coil::Coro<> measure() {
    constexpr long COUNT = 300;
    co_await spawn(20);
    double start = now_ns();
    co_await spawn(COUNT);
    report("spawn", "small", (now_ns() - start) / COUNT);

    std::vector<char> memory(std::size_t{1} << 30, 'x');
    bench::keep(memory.data());
    co_await spawn(5);
    start = now_ns();
    co_await spawn(COUNT);
    report("spawn", "1_gib", (now_ns() - start) / COUNT);
}

int main() { coil::run(measure()); }
