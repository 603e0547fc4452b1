#include "../common/asio.hpp"

#include <sys/eventfd.h>

#include "../common/bench.hpp"

Awaitable<> take_turns(long turns) {
    for (long i = 0; i < turns; i++) co_await asio::post(asio::use_awaitable);
}

Awaitable<> measure(asio::posix::stream_descriptor& watched) {
    constexpr long TURNS = 2'000'000;
    watched.async_wait(asio::posix::stream_descriptor::wait_read, [](error_code) {});
    co_await take_turns(1000);
    double start = now_ns();
    co_await take_turns(TURNS);
    report("sleep0_poll", "1", (now_ns() - start) / TURNS);
    watched.cancel();
}

int main() {
    asio::io_context io(1);
    asio::posix::stream_descriptor watched(io, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    asio::co_spawn(io, measure(watched), asio::detached);
    io.run();
}
