// The loop's sock_ methods on plain non-blocking sockets.

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "scenario.hpp"

namespace conformance {

namespace {

std::string upper(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return text;
}

Coro<> serve(const coil::Socket& listener) {
    auto& loop = coil::get_running_loop();
    auto [connection, address] = co_await loop.sock_accept(listener);
    print("accepted from", address.host);
    while (true) {
        std::string data = co_await loop.sock_recv(connection, 1024);
        if (data.empty()) {
            print("server EOF");
            co_return;
        }
        co_await loop.sock_sendall(connection, upper(data));
    }
}

Coro<> main() {
    auto& loop = coil::get_running_loop();
    {
        coil::Socket listener(AF_INET, SOCK_STREAM);
        coil::Socket s(AF_INET, SOCK_STREAM);
        listener.bind({"127.0.0.1", 0});
        listener.listen();
        auto task = coil::create_task(serve(listener));
        co_await loop.sock_connect(s, listener.getsockname());
        co_await loop.sock_sendall(s, "hello");
        print("received", co_await loop.sock_recv(s, 1024));
        std::array<char, 16> buffer{};
        co_await loop.sock_sendall(s, "into buffer");
        std::size_t n = co_await loop.sock_recv_into(s, std::as_writable_bytes(std::span(buffer)));
        print("recv_into", n, std::string_view(buffer.data(), n));

        auto receiving = coil::create_task(loop.sock_recv(s, 1024));
        co_await coil::sleep(10ms);
        receiving.cancel();
        std::vector<coil::Task<std::string>> tasks(1, receiving);
        co_await coil::wait(tasks);
        print("recv cancelled", yn(receiving.cancelled()));
        co_await loop.sock_sendall(s, "after cancel");
        print("received", co_await loop.sock_recv(s, 1024));
        s.shutdown(SHUT_WR);
        co_await task;
    }
    coil::Socket a(AF_INET, SOCK_DGRAM);
    coil::Socket b(AF_INET, SOCK_DGRAM);
    a.bind({"127.0.0.1", 0});
    b.bind({"127.0.0.1", 0});
    print("sendto", co_await loop.sock_sendto(a, "datagram", b.getsockname()));
    auto [data, address] = co_await loop.sock_recvfrom(b, 100);
    print("recvfrom", data, "from a", yn(address == a.getsockname()));
}

}  // namespace

SCENARIO("160_sock_methods", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
