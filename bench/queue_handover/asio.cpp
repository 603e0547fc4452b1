#include "../common/asio.hpp"

#include <boost/asio/experimental/channel.hpp>

#include "../common/bench.hpp"
#include "../common/malloc_count.hpp"

using Channel = asio::experimental::channel<void(error_code, int)>;

Awaitable<> produce(Channel& channel, int count) {
    for (int i = 0; i < count; i++) co_await channel.async_send(error_code(), i, asio::use_awaitable);
}

Awaitable<> consume(Channel& channel, int count) {
    long sum = 0;
    for (int i = 0; i < count; i++) sum += co_await channel.async_receive(asio::use_awaitable);
    bench::keep(sum);
}

void hand_over(asio::io_context& io, int count) {
    Channel channel(io, 1);
    asio::co_spawn(io, produce(channel, count), asio::detached);
    asio::co_spawn(io, consume(channel, count), asio::detached);
    io.restart();
    io.run();
}

int main() {
    constexpr int COUNT = 2'000'000;
    asio::io_context io(1);
    hand_over(io, 1000);
    bench::Measurement measurement;
    hand_over(io, COUNT);
    measurement.report("queue_handover", "item", COUNT);
}
