#include "../common/asio.hpp"

#include <thread>

#include "../common/bench.hpp"

void post_from_thread(asio::io_context& io, long count) {
    auto busy = asio::make_work_guard(io);
    long left = count;
    io.restart();
    std::thread producer([&] {
        for (long i = 0; i < count; i++)
            asio::post(io, [&] {
                if (--left == 0) busy.reset();
            });
    });
    io.run();
    producer.join();
}

int main() {
    constexpr long COUNT = 2'000'000;
    asio::io_context io(2);
    post_from_thread(io, 10'000);
    double start = now_ns();
    post_from_thread(io, COUNT);
    report("cross_thread", "throughput", (now_ns() - start) / COUNT);
}
