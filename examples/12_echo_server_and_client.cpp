// Streams: a server that sends back what it gets, and a client that writes while it reads.

#include <any>
#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>

// The reader and the writer are handles, taken by value: a reference would not outlive the caller's.
coil::Coro<> echo(coil::StreamReader reader, coil::StreamWriter writer) {
    std::size_t total = 0;
    for (;;) {
        std::string data = co_await reader.read(4096);
        if (data.empty()) break;  // the end of the stream
        total += data.size();
        writer.write(data);
        co_await writer.drain();  // back-pressure: waits while the client does not read
    }
    fmt::print("server: {} bytes echoed\n", total);
    writer.close();
    co_await writer.wait_closed();
}

coil::Coro<> send_lines(coil::StreamWriter writer, int count) {
    for (int i = 0; i < count; ++i) {
        writer.write(fmt::format("line {}\n", i));
        co_await writer.drain();
    }
    writer.write_eof();
}

coil::Coro<> client(int port) {
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    auto peer = std::any_cast<coil::SocketAddress>(writer.get_extra_info("peername"));
    fmt::print("client: connected to {}, the right port: {}\n", peer.host, peer.port == port);

    coil::Task<> sending = coil::create_task(send_lines(writer, 1000));
    std::string first = co_await reader.readline();
    std::string last;
    int lines = 1;
    while (auto line = co_await reader.next()) {
        last = *line;
        ++lines;
    }
    co_await sending;
    fmt::print("client: {} lines, from {:?} to {:?}\n", lines, first, last);
    writer.close();
    co_await writer.wait_closed();
}

coil::Coro<> serve_one() {
    // Port 0: any that is free.
    coil::Server server = co_await coil::start_server(echo, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    // Closes the server at the end of the block, and waits for its connections.
    co_await coil::async_with(server, [&]() -> coil::Coro<> { co_await client(port); });
    fmt::print("closed\n");
}

int main() { coil::run(serve_one()); }
