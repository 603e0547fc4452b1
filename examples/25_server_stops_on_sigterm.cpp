// A server that ends politely: SIGTERM or Ctrl-C stops it from listening, answers under way are finished, and who stays
// longer than the grace period is closed.
//
//     25_server_stops_on_sigterm 8080      serves until it is told to stop: try `nc localhost 8080`
//     25_server_stops_on_sigterm           plays a client, too, and sends itself a SIGTERM

#include <coil/coil.hpp>
#include <csignal>
#include <cstdlib>
#include <fmt/core.h>
#include <string>

using namespace std::chrono_literals;

constexpr auto GRACE_PERIOD = 500ms;

coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
    while (auto line = co_await reader.next()) {
        co_await coil::sleep(50ms);  // the answer takes its time
        writer.write("you said " + *line);
        co_await writer.drain();
    }
    writer.close();
}

coil::Coro<> serve_until_stopped(int port, coil::Future<int> listening) {
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", port);
    listening.set_result(server.sockets().front().getsockname().port);

    coil::EventLoop& loop = coil::get_running_loop();
    coil::Event stop;
    for (int number : {SIGTERM, SIGINT}) loop.add_signal_handler(number, [&stop] { stop.set(); });
    co_await stop.wait();
    // From now on they do what they did before: who insists ends the program.
    for (int number : {SIGTERM, SIGINT}) loop.remove_signal_handler(number);

    fmt::print("stopping\n");
    server.close();
    auto all_gone = co_await coil::try_await(coil::wait_for(server.wait_closed(), GRACE_PERIOD));
    if (!all_gone) {
        fmt::print("somebody stays\n");
        server.close_clients();
        co_await server.wait_closed();
    }
    fmt::print("stopped\n");
}

// Asks, sends the signal while the answer is under way, gets it all the same, and stays until it is thrown out.
coil::Coro<> play(coil::Future<int> listening) {
    int port = co_await listening;
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    writer.write("hello\n");
    coil::get_running_loop().call_later(20ms, [] { std::raise(SIGTERM); });
    std::string answer = co_await reader.readline();
    fmt::print("{}", answer);
    std::string rest = co_await reader.read();
    writer.close();
}

coil::Coro<> program(int port) {
    coil::Future<int> listening = coil::get_running_loop().create_future<int>();
    if (port != 0) {
        co_await serve_until_stopped(port, listening);
    } else {
        co_await coil::gather(serve_until_stopped(0, listening), play(listening));
    }
}

int main(int argc, char** argv) { coil::run(program(argc > 1 ? std::atoi(argv[1]) : 0)); }
