// A loop that sleeps in the kernel is woken by another thread: from the post to the callback, median.
#include <coil/coil.hpp>

#include <semaphore>
#include <thread>

#include "../common/bench.hpp"

int main() {
    constexpr std::size_t COUNT = 5'000;
    auto loop = coil::new_event_loop();
    std::binary_semaphore arrived(0);
    std::vector<double> latencies;
    std::thread poster([&] {
        for (std::size_t i = 0; i < COUNT; i++) {
            bench::let_it_sleep();
            loop->call_soon_threadsafe([&, posted = now_ns()] {
                latencies.push_back(now_ns() - posted);
                arrived.release();
            });
            arrived.acquire();
        }
        loop->call_soon_threadsafe([&] { loop->stop(); });
    });
    loop->run_forever();
    poster.join();
    loop->close();
    report("wake_up", "latency", bench::median(latencies, COUNT));
}
