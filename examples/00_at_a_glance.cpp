// The README's example: an echo server and two clients, each with a time limit.

#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
    while (auto line = co_await reader.next()) {
        writer.write("you said " + *line);
        co_await writer.drain();
    }
    writer.close();
}

coil::Coro<std::string> ask(int port, std::string question) {
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    writer.write(question + "\n");
    std::string answer = co_await coil::wait_for(reader.readline(), 5s);
    writer.close();
    co_return answer;
}

coil::Coro<> chat() {
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    auto [first, second] = co_await coil::gather(ask(port, "hello"), ask(port, "goodbye"));
    fmt::print("{}{}", first, second);
    server.close();
    co_await server.wait_closed();
}

int main() { coil::run(chat()); }
