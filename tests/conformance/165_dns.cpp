// getaddrinfo and getnameinfo run in another thread; failures are OSErrors.

#include <netdb.h>
#include <sys/socket.h>

#include "scenario.hpp"

namespace conformance {

namespace {

Coro<> main() {
    auto& loop = coil::get_running_loop();
    auto infos = co_await loop.getaddrinfo("127.0.0.1", 8080, {.type = SOCK_STREAM});
    auto& [family, kind, proto, canonname, address] = infos.front();
    print("infos", infos.size(), "IPv4", yn(family == AF_INET), "addr", address.host, address.port);

    auto task = coil::create_task(loop.getaddrinfo("localhost", 80, {.family = AF_INET}));
    co_await coil::sleep(0s);
    print("other tasks run meanwhile");
    auto found = co_await task;
    print("localhost", found.front().address.host);

    coil::SocketAddress local{"127.0.0.1", 8080};
    auto [host, port] = co_await loop.getnameinfo(local, NI_NUMERICHOST | NI_NUMERICSERV);
    print("name", host, port);

    try {
        co_await loop.getaddrinfo("127.0.0.1", "no-such-service-name");
    } catch (const coil::OSError&) {
        print("unknown service -> OSError");
    }
    try {
        co_await coil::open_connection("127.0.0.1", 1);
    } catch (const coil::ConnectionRefusedError&) {
        print("refused -> ConnectionRefusedError");
    }
}

}  // namespace

SCENARIO("165_dns", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
