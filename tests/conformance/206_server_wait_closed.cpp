// wait_closed waits for live connections; close_clients and abort_clients end them; a cancelled serve_forever waits as well.

#include "scenario.hpp"

namespace conformance {

static Coro<> handle(coil::StreamReader reader, coil::StreamWriter writer) {
    co_await reader.read();
    writer.close();
}

static Coro<> waiter(coil::Server server) {
    co_await server.wait_closed();
    print("wait_closed returned");
}

struct Connected {
    coil::Server server;
    coil::StreamReader reader;
    coil::StreamWriter writer;
};

static Coro<Connected> start() {
    coil::Server server = co_await coil::start_server(handle, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port);
    co_await coil::sleep(60ms);
    co_return Connected{server, reader, writer};
}

static Coro<> after(const char* label, void (coil::Server::*end_clients)()) {
    auto [server, reader, writer] = co_await start();
    server.close();
    (server.*end_clients)();
    co_await server.wait_closed();
    try {
        std::string data = co_await reader.read();
        print(label, "client read", data.size());
    } catch (const coil::ConnectionResetError& e) {
        print(label, name_of(e));
    }
    writer.close();
}

static Coro<> main() {
    {
        auto [server, reader, writer] = co_await start();
        auto w = coil::create_task(waiter(server));
        server.close();
        co_await coil::sleep(60ms);
        print("waiting for the connection", yn(!w.done()));
        writer.close();
        co_await w;
    }

    co_await after("close_clients", &coil::Server::close_clients);
    co_await after("abort_clients", &coil::Server::abort_clients);

    auto [server, reader, writer] = co_await start();
    auto t = coil::create_task(server.serve_forever());
    co_await coil::sleep(0s);
    t.cancel();
    co_await coil::sleep(60ms);
    print("serve_forever still waiting", yn(!t.done()));
    writer.close();
    std::vector<coil::Task<>> tasks{t};
    co_await coil::wait(tasks);
    print("serve_forever cancelled", yn(t.cancelled()));
}

SCENARIO("206_server_wait_closed", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
