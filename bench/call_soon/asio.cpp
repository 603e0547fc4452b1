#include "../common/asio.hpp"

#include "../common/bench.hpp"

constexpr int BATCH = 1000;

void run_batches(asio::io_context& io, long rounds) {
    long sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < BATCH; i++) asio::post(io, [&sum, i] { sum += i; });
        io.restart();
        io.run();
    }
    bench::keep(sum);
}

struct Chain {
    asio::io_context& io;
    long left;
};

struct Link {
    Chain* chain;
    void operator()() const {
        if (--chain->left > 0) asio::post(chain->io, *this);
    }
};

int main() {
    constexpr long ROUNDS = 5000;
    constexpr long LENGTH = 5'000'000;
    asio::io_context io(1);
    run_batches(io, 10);

    double start = now_ns();
    run_batches(io, ROUNDS);
    report("call_soon", "batch_1000", (now_ns() - start) / (double{BATCH} * ROUNDS));

    Chain chain{io, LENGTH};
    asio::post(io, Link{&chain});
    report("call_soon", "chain", run_timed(io, now_ns) / LENGTH);
}
