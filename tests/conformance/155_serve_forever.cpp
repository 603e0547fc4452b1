// start_serving and serve_forever: a delayed start, one waiter only, the end by cancellation.

#include "scenario.hpp"

namespace conformance {

static Coro<> handle(coil::StreamReader, coil::StreamWriter writer) {
    writer.close();
    co_return;
}

static Coro<> forever(coil::Server server) {
    try {
        co_await server.serve_forever();
    } catch (const coil::CancelledError&) {
        print("serve_forever CancelledError, serving", yn(server.is_serving()));
        throw;
    }
}

static Coro<> wait_for_end(coil::Task<> task) {
    std::vector<coil::Task<>> tasks{task};
    co_await coil::wait(tasks);
}

static Coro<> main() {
    coil::Server server = co_await coil::start_server(handle, "127.0.0.1", 0, {.start_serving = false});
    print("serving", yn(server.is_serving()));
    co_await server.start_serving();
    co_await server.start_serving();
    print("serving", yn(server.is_serving()));

    auto t = coil::create_task(forever(server));
    co_await coil::sleep(10ms);
    try {
        co_await server.serve_forever();
    } catch (const coil::RuntimeError&) {
        print("second serve_forever -> RuntimeError");
    }
    t.cancel();
    co_await wait_for_end(t);
    print("task cancelled", yn(t.cancelled()));
    try {
        co_await server.serve_forever();
    } catch (const coil::RuntimeError&) {
        print("closed server -> RuntimeError");
    }

    server = co_await coil::start_server(handle, "127.0.0.1", 0);
    t = coil::create_task(forever(server));
    co_await coil::sleep(10ms);
    server.close();
    co_await wait_for_end(t);
    print("close() ends it too; task cancelled", yn(t.cancelled()));
}

SCENARIO("155_serve_forever", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
