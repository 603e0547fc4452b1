// As many threads as coil's default executor has.
#include "../common/asio.hpp"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "../common/bench.hpp"

/// Calls posted to the pool, which post their results back: a round after another.
class Calls {
  public:
    Calls(asio::io_context& io, asio::thread_pool& pool, long rounds, long width)
        : io_(io), pool_(pool), rounds_(rounds), results_(static_cast<std::size_t>(width)) {}

    void start_round() {
        left_ = results_.size();
        for (std::size_t i = 0; i < results_.size(); i++)
            asio::post(pool_, [this, i, busy = asio::make_work_guard(io_)] {
                asio::post(io_, [this, i, value = static_cast<long>(i) + 1] { arrived(i, value); });
            });
    }

    long rounds_left() const { return rounds_; }

  private:
    void arrived(std::size_t i, long value) {
        results_[i] = value;
        if (--left_ > 0) return;
        for (std::size_t k = 0; k < results_.size(); k++)
            if (std::exchange(results_[k], 0) != static_cast<long>(k) + 1) std::abort();
        if (--rounds_ > 0) start_round();
    }

    asio::io_context& io_;
    asio::thread_pool& pool_;
    long rounds_;
    std::vector<long> results_;
    std::size_t left_ = 0;
};

double run(asio::thread_pool& pool, long rounds, long width) {
    asio::io_context io;
    Calls calls(io, pool, rounds, width);
    calls.start_round();
    double took = run_timed(io, now_ns);
    if (calls.rounds_left() != 0) std::abort();
    return took;
}

int main() {
    constexpr long COUNT = 20'000;
    constexpr long WIDTH = 64;
    constexpr long ROUNDS = 1'500;
    asio::thread_pool pool(std::min(32u, std::thread::hardware_concurrency() + 4));
    run(pool, 200, 1);
    report("to_thread", "one", run(pool, COUNT, 1) / COUNT);
    run(pool, 20, WIDTH);
    report("to_thread", "64_at_once", run(pool, ROUNDS, WIDTH) / static_cast<double>(ROUNDS * WIDTH));
}
