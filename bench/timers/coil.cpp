// Timers with deadlines spread over a minute: scheduled and cancelled at once with 10,000 others outstanding;
// a million scheduled, then cancelled in random order; a million scheduled already due, and fired.
#include <coil/coil.hpp>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

constexpr std::size_t MILLION = 1'000'000;

coil::Coro<> schedule_cancel(const std::vector<long>& offsets) {
    constexpr std::size_t OUTSTANDING = 10'000;
    coil::EventLoop& loop = coil::get_running_loop();
    coil::TimePoint base = loop.time() + 100s;
    std::vector<coil::TimerHandle> outstanding;
    for (std::size_t i = 0; i < OUTSTANDING; i++)
        outstanding.push_back(loop.call_at(base + std::chrono::nanoseconds(offsets[i]), [] {}));

    double start = now_ns();
    for (std::size_t i = 0; i < MILLION; i++) {
        loop.call_at(base + std::chrono::nanoseconds(offsets[i]), [] {}).cancel();
        if (i % 1000 == 0) co_await coil::sleep(0s);
    }
    report("timer_schedule_cancel", "10000_outstanding", (now_ns() - start) / MILLION);
    for (coil::TimerHandle& timer : outstanding) timer.cancel();
}

coil::Coro<> schedule_then_cancel(const std::vector<long>& offsets) {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::TimePoint base = loop.time() + 100s;
    std::vector<std::size_t> order = bench::random_order(MILLION);
    std::vector<coil::TimerHandle> timers;
    timers.reserve(MILLION);

    double start = now_ns();
    for (long offset : offsets)
        timers.push_back(loop.call_at(base + std::chrono::nanoseconds(offset), [] {}));
    double scheduled = now_ns();
    for (std::size_t i : order) timers[i].cancel();
    co_await coil::sleep(0s);
    double cancelled = now_ns();
    report("timer_schedule", "1M", (scheduled - start) / MILLION);
    report("timer_cancel", "1M_random", (cancelled - scheduled) / MILLION);
}

coil::Coro<> schedule_fire(const std::vector<long>& offsets) {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::TimePoint base = loop.time() - 100s;
    coil::Future<> done = loop.create_future<void>();
    std::size_t left = MILLION;
    auto fire = [&left, &done] {
        if (--left == 0) done.set_result();
    };
    double start = now_ns();
    for (long offset : offsets) loop.call_at(base + std::chrono::nanoseconds(offset), fire);
    co_await done;
    report("timer_schedule_fire", "1M", (now_ns() - start) / MILLION);
}

coil::Coro<> measure() {
    std::vector<long> offsets = bench::timer_offsets(MILLION);
    co_await schedule_cancel(offsets);
    co_await schedule_then_cancel(offsets);
    co_await schedule_fire(offsets);
}

int main() { coil::run(measure()); }
