// A TCP proxy: each connection is joined to one that it opens to another server. Bytes go both ways at the same time, an
// end of one direction is passed on, and whoever does not read slows down whoever writes.

#include <algorithm>
#include <cctype>
#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>

coil::Coro<> pump(coil::StreamReader from, coil::StreamWriter to, std::size_t& total) {
    for (;;) {
        std::string data = co_await from.read(64 * 1024);
        if (data.empty()) break;
        total += data.size();
        to.write(data);
        co_await to.drain();  // so `from` is not read faster than `to` takes it
    }
    to.write_eof();  // this direction only
}

struct Proxy {
    int upstream_port;
    std::size_t up = 0;  // bytes
    std::size_t down = 0;

    coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
        auto upstream = co_await coil::try_await(coil::open_connection("127.0.0.1", upstream_port));
        if (!upstream) {
            writer.close();  // the client reads the end, and nothing before it
            co_return;
        }
        auto [upstream_reader, upstream_writer] = upstream.value();
        // A direction that fails cancels the other one.
        auto both = coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& group) -> coil::Coro<> {
            group.create_task(pump(reader, upstream_writer, up));
            group.create_task(pump(upstream_reader, writer, down));
            co_return;
        });
        auto outcome = co_await coil::try_await(std::move(both));
        if (!outcome) fmt::print("broken: {}\n", coil::describe_exception(outcome.error()));
        writer.close();
        upstream_writer.close();
    }
};

// Answers in capitals, once it has heard everything.
coil::Coro<> shout(coil::StreamReader reader, coil::StreamWriter writer) {
    std::string text = co_await reader.read();
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
    writer.write(text);
    co_await writer.drain();
    writer.close();
}

coil::Coro<std::string> ask(int port, std::string question) {
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    writer.write(question);
    writer.write_eof();
    std::string answer = co_await reader.read();
    writer.close();
    co_return answer;
}

int port_of(const coil::Server& server) { return server.sockets().front().getsockname().port; }

coil::Coro<> run_both() {
    coil::Server upstream = co_await coil::start_server(shout, "127.0.0.1", 0);
    Proxy proxy{port_of(upstream)};
    auto serve = [&proxy](coil::StreamReader reader, coil::StreamWriter writer) {
        return proxy.serve(std::move(reader), std::move(writer));
    };
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", 0);

    std::string answer = co_await ask(port_of(server), "hello through the proxy");
    fmt::print("{}\n", answer);
    answer = co_await ask(port_of(server), std::string(3'000'000, 'a'));
    fmt::print("{} bytes\n", answer.size());

    server.close();
    co_await server.wait_closed();
    fmt::print("{} bytes up, {} bytes down\n", proxy.up, proxy.down);
    upstream.close();
    co_await upstream.wait_closed();
}

int main() { coil::run(run_both()); }
