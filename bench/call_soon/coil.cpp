// A callback through the ready queue: a thousand per turn, and a chain in which each posts the next.
#include <coil/coil.hpp>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

constexpr int BATCH = 1000;

coil::Coro<> run_batches(long rounds) {
    coil::EventLoop& loop = coil::get_running_loop();
    long sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < BATCH; i++) loop.call_soon([&sum, i] { sum += i; });
        co_await coil::sleep(0s);
    }
    bench::keep(sum);
}

struct Chain {
    coil::EventLoop& loop;
    coil::Future<> done;
    long left;
};

struct Link {
    Chain* chain;
    void operator()() const {
        if (--chain->left > 0) {
            chain->loop.call_soon(*this);
        } else {
            chain->done.set_result();
        }
    }
};

coil::Coro<> run_chain(long length) {
    coil::EventLoop& loop = coil::get_running_loop();
    Chain chain{loop, loop.create_future<void>(), length};
    loop.call_soon(Link{&chain});
    co_await chain.done;
}

coil::Coro<> measure() {
    constexpr long ROUNDS = 10'000;
    constexpr long LENGTH = 5'000'000;
    co_await run_batches(10);

    double start = now_ns();
    co_await run_batches(ROUNDS);
    report("call_soon", "batch_1000", (now_ns() - start) / (double{BATCH} * ROUNDS));

    start = now_ns();
    co_await run_chain(LENGTH);
    report("call_soon", "chain", (now_ns() - start) / LENGTH);
}

int main() { coil::run(measure()); }
