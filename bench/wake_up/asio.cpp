#include "../common/asio.hpp"

#include <semaphore>
#include <thread>

#include "../common/bench.hpp"

int main() {
    constexpr std::size_t COUNT = 5'000;
    asio::io_context io;
    auto busy = asio::make_work_guard(io);
    std::binary_semaphore arrived(0);
    std::vector<double> latencies;
    std::thread poster([&] {
        for (std::size_t i = 0; i < COUNT; i++) {
            bench::let_it_sleep();
            asio::post(io, [&, posted = now_ns()] {
                latencies.push_back(now_ns() - posted);
                arrived.release();
            });
            arrived.acquire();
        }
        busy.reset();
    });
    io.run();
    poster.join();
    report("wake_up", "latency", bench::median(latencies, COUNT));
}
