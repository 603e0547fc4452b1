// Callbacks posted from another thread as fast as it can: time until the last has run, per callback.
#include <coil/coil.hpp>

#include <thread>

#include "../common/bench.hpp"

struct Posts {
    coil::Future<> done;
    long left;
};

coil::Coro<> post_from_thread(long count) {
    coil::EventLoop& loop = coil::get_running_loop();
    Posts posts{loop.create_future<void>(), count};
    std::thread producer([&loop, &posts, count] {
        for (long i = 0; i < count; i++)
            loop.call_soon_threadsafe([&posts] {
                if (--posts.left == 0) posts.done.set_result();
            });
    });
    co_await posts.done;
    producer.join();
}

coil::Coro<> measure() {
    constexpr long COUNT = 3'000'000;
    co_await post_from_thread(10'000);
    double start = now_ns();
    co_await post_from_thread(COUNT);
    report("cross_thread", "throughput", (now_ns() - start) / COUNT);
}

int main() { coil::run(measure()); }
