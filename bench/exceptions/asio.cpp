#include "../common/asio.hpp"

#include "../common/bench.hpp"

struct Failure : std::exception {};

Awaitable<int> fail(int depth) {
    if (depth == 0) throw Failure{};
    co_return co_await fail(depth - 1);
}

Awaitable<long> catch_all(long count, int depth) {
    long caught = 0;
    for (long i = 0; i < count; i++) {
        try {
            co_await fail(depth);
        } catch (const Failure&) {
            caught++;
        }
    }
    co_return caught;
}

Awaitable<> measure() {
    constexpr long COUNT = 20'000;
    for (int depth : {0, 1, 4, 16}) {
        co_await catch_all(100, depth);
        double start = now_ns();
        long caught = co_await catch_all(COUNT, depth);
        report("exception", std::to_string(depth).c_str(), (now_ns() - start) / static_cast<double>(caught));
    }
}

int main() {
    asio::io_context io(1);
    asio::co_spawn(io, measure(), asio::detached);
    io.run();
}
