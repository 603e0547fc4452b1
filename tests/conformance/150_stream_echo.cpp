// Streams: an echo server and a client on loopback, several messages, end of stream.

#include <fmt/format.h>

#include "scenario.hpp"

namespace conformance {

static std::string_view stripped(std::string_view line) {
    while (line.ends_with('\n')) line.remove_suffix(1);
    return line;
}

static Coro<> handle(coil::StreamReader reader, coil::StreamWriter writer, coil::Future<> finished) {
    print("server: client connected");
    while (true) {
        std::string data = co_await reader.readline();
        if (data.empty()) break;
        print("server: received", stripped(data));
        writer.write("echo " + data);
        co_await writer.drain();
    }
    print("server: EOF");
    writer.close();
    co_await writer.wait_closed();
    print("server: closed");
    finished.set_result();
}

static Coro<> main() {
    auto finished = coil::get_running_loop().create_future();
    auto connected = [finished](coil::StreamReader reader, coil::StreamWriter writer) {
        return handle(std::move(reader), std::move(writer), finished);
    };
    coil::Server server = co_await coil::start_server(std::move(connected), "127.0.0.1", 0);
    print("serving", yn(server.is_serving()), "sockets", server.sockets().size());
    int port = server.sockets().front().getsockname().port;
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    for (const char* message : {"one", "two", "three"}) {
        writer.write(fmt::format("{}\n", message));
        co_await writer.drain();
        std::string answer = co_await reader.readline();
        print("client: got", stripped(answer));
    }
    print("can write eof", yn(writer.can_write_eof()));
    writer.write_eof();
    std::string rest = co_await reader.read();
    print("client: read after eof", rest.empty() ? "empty" : "data", "at_eof", yn(reader.at_eof()));
    co_await finished;
    writer.close();
    print("is_closing", yn(writer.is_closing()));
    co_await writer.wait_closed();
    server.close();
    co_await server.wait_closed();
    print("serving", yn(server.is_serving()), "sockets", server.sockets().size());
}

SCENARIO("150_stream_echo", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
