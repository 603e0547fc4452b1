#include "../common/limit.hpp"

#include "../common/bench.hpp"

struct Failure : std::exception {};

limit::Child fail(int depth) {
    if (depth == 0) throw Failure{};
    co_return co_await fail(depth - 1);
}

limit::Child catch_all(int count, int depth) {
    int caught = 0;
    for (int i = 0; i < count; i++) {
        try {
            co_await fail(depth);
        } catch (const Failure&) {
            caught++;
        }
    }
    co_return caught;
}

limit::Detached measure() {
    constexpr int COUNT = 30'000;
    for (int depth : {0, 1, 4, 16}) {
        co_await catch_all(100, depth);
        double start = now_ns();
        int caught = co_await catch_all(COUNT, depth);
        report("exception", std::to_string(depth).c_str(), (now_ns() - start) / caught);
    }
}

int main() { measure(); }
