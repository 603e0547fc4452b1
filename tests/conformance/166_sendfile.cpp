// loop.sendfile and loop.sock_sendfile: counts, offsets, the file's position, errors.

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "scenario.hpp"

namespace conformance {

namespace {

class Sink final : public coil::Protocol {
  public:
    void data_received(std::string_view bytes) override { data += bytes; }
    void connection_lost(std::exception_ptr) override { lost.set_result(); }
    std::string data;
    coil::Future<> lost = coil::get_running_loop().create_future();
};

Coro<> main() {
    auto& loop = coil::get_running_loop();
    auto sink = std::make_shared<Sink>();
    coil::Server server = co_await loop.create_server([&] { return sink; }, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
    for (int i = 0; i < 20000; ++i) std::fputs("0123456789", file.get());
    std::fflush(file.get());
    int f = ::fileno(file.get());
    auto position = [&] { return ::lseek(f, 0, SEEK_CUR); };

    auto [transport, source] =
        co_await loop.create_connection([] { return std::make_shared<coil::Protocol>(); }, "127.0.0.1", port);
    transport->write("head:");
    std::size_t sent = co_await loop.sendfile(transport, f);
    print("whole file", sent, "position", position());
    sent = co_await loop.sendfile(transport, f, 5, 7);
    print("part", sent, "position", position());
    print("past the end", co_await loop.sendfile(transport, f, 1000000));
    transport->write(":tail");
    transport->close();
    co_await sink->lost;
    std::string_view data = sink->data;
    print("received", data.size(), data.substr(0, 10), data.substr(data.size() - 12));
    try {
        co_await loop.sendfile(transport, f);
    } catch (const coil::RuntimeError&) {
        print("closing transport -> RuntimeError");
    }

    auto [a, b] = coil::Socket::pair();
    print("sock_sendfile", co_await loop.sock_sendfile(a, f, 3, 4));
    print("socket got", co_await loop.sock_recv(b, 100));
    try {
        co_await loop.sock_sendfile(a, f, 0, 0);
    } catch (const coil::ValueError&) {
        print("count 0 -> ValueError");
    }
    server.close();
}

}  // namespace

SCENARIO("166_sendfile", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
