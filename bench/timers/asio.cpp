#include "../common/asio.hpp"

#include "../common/bench.hpp"

using namespace std::chrono_literals;
using Timer = asio::steady_timer;

constexpr std::size_t MILLION = 1'000'000;

std::vector<Timer> make_timers(asio::io_context& io, std::size_t count) {
    std::vector<Timer> timers;
    timers.reserve(count);
    for (std::size_t i = 0; i < count; i++) timers.emplace_back(io);
    return timers;
}

void schedule(Timer& timer, Timer::time_point base, long offset) {
    timer.expires_at(base + std::chrono::nanoseconds(offset));
    timer.async_wait([](error_code) {});
}

void schedule_cancel(asio::io_context& io, const std::vector<long>& offsets) {
    auto base = Timer::clock_type::now() + 100s;
    std::vector<Timer> outstanding = make_timers(io, 10'000);
    for (std::size_t i = 0; i < outstanding.size(); i++) schedule(outstanding[i], base, offsets[i]);

    Timer timer(io);
    double start = now_ns();
    for (std::size_t i = 0; i < MILLION; i++) {
        schedule(timer, base, offsets[i]);
        timer.cancel();
        if (i % 1000 == 0) io.poll();
    }
    report("timer_schedule_cancel", "10000_outstanding", (now_ns() - start) / MILLION);
    outstanding.clear();
    io.run();
}

void schedule_then_cancel(asio::io_context& io, const std::vector<long>& offsets) {
    auto base = Timer::clock_type::now() + 100s;
    std::vector<std::size_t> order = bench::random_order(MILLION);
    std::vector<Timer> timers = make_timers(io, MILLION);

    double start = now_ns();
    for (std::size_t i = 0; i < MILLION; i++) schedule(timers[i], base, offsets[i]);
    double scheduled = now_ns();
    for (std::size_t i : order) timers[i].cancel();
    io.restart();
    io.run();
    double cancelled = now_ns();
    report("timer_schedule", "1M", (scheduled - start) / MILLION);
    report("timer_cancel", "1M_random", (cancelled - scheduled) / MILLION);
}

void schedule_fire(asio::io_context& io, const std::vector<long>& offsets) {
    auto base = Timer::clock_type::now() - 100s;
    std::vector<Timer> timers = make_timers(io, MILLION);
    std::size_t left = MILLION;

    double start = now_ns();
    for (std::size_t i = 0; i < MILLION; i++) {
        timers[i].expires_at(base + std::chrono::nanoseconds(offsets[i]));
        timers[i].async_wait([&left](error_code) { left--; });
    }
    io.restart();
    io.run();
    report("timer_schedule_fire", "1M", (now_ns() - start) / MILLION);
    bench::keep(left);
}

int main() {
    std::vector<long> offsets = bench::timer_offsets(MILLION);
    asio::io_context io(1);
    schedule_cancel(io, offsets);
    schedule_then_cancel(io, offsets);
    schedule_fire(io, offsets);
}
