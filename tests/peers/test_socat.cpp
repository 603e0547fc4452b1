// socat on Unix sockets and UDP.

#include <any>

#include <sys/socket.h>

#include "peers/fixture.hpp"

using namespace coil;
using namespace peers;

namespace {

using peers::Process;  // not coil's

class SocatPeers : public Peers {};
ON_EVERY_BACKEND(SocatPeers);

TEST_P(SocatPeers, speaks_with_a_unix_server) {
    run([]() -> Coro<> {
        support::TemporaryDirectory directory;
        std::string path = directory.path("server.sock");
        auto upper = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            std::string all = co_await reader.read();  // its end comes while it still reads
            writer.write(std::to_string(all.size()));
            co_await hang_up(writer);
        };
        Server server = co_await start_unix_server(upper, path);
        std::vector<std::string> command{"socat", "-t50", "-", "UNIX-CONNECT:" + path};
        auto socat = co_await Process::start(command);
        socat.write(std::string(100'000, 'x'));
        auto ended = co_await socat.finish();
        EXPECT_EQ(ended.output, "100000");
        EXPECT_EQ(ended.exit_code, 0);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(SocatPeers, answers_a_unix_client) {
    run([]() -> Coro<> {
        support::TemporaryDirectory directory;
        std::string path = directory.path("socat.sock");
        std::vector<std::string> command{"socat", "-d", "-d", "UNIX-LISTEN:" + path, "PIPE"};
        auto socat = co_await Process::start(command);
        co_await socat.line_with("listening on");
        auto [reader, writer] = co_await open_unix_connection(path);
        writer.write("there and back\n");
        EXPECT_EQ(co_await reader.readline(), "there and back\n");
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        EXPECT_EQ((co_await socat.finish()).exit_code, 0);
    }());
}

/// Answers each message, and keeps it.
class Answering : public DatagramProtocol {
  public:
    void connection_made(std::shared_ptr<DatagramTransport> its) override { transport = std::move(its); }
    void datagram_received(std::string_view data, const SocketAddress& address) override {
        transport->sendto("re: " + std::string(data), address);
    }
    void connection_lost(std::exception_ptr) override { transport = nullptr; }
    std::shared_ptr<DatagramTransport> transport;
};

TEST_P(SocatPeers, gets_answers_by_udp) {
    run([]() -> Coro<> {
        auto factory = [] { return std::make_shared<Answering>(); };
        auto [transport, protocol] =
            co_await get_running_loop().create_datagram_endpoint(factory, {.local_addr = {"127.0.0.1", 0}});
        int port = std::any_cast<SocketAddress>(transport->get_extra_info("sockname")).port;
        std::vector<std::string> command{"socat", "-", fmt::format("UDP4:127.0.0.1:{}", port)};
        auto socat = co_await Process::start(command);
        for (int i = 0; i < 100; ++i) {
            std::string message = fmt::format("message {}\n", i);
            socat.write(message);
            EXPECT_EQ(co_await socat.output().readline(), "re: " + message);
        }
        transport->close();
    }());
}

/// Hands its messages to the test.
class Receiving : public DatagramProtocol {
  public:
    void datagram_received(std::string_view data, const SocketAddress&) override {
        messages.put_nowait(std::string(data));
    }
    Queue<std::string> messages;
};

TEST_P(SocatPeers, answers_by_udp) {
    run([]() -> Coro<> {
        // Two sockets that know each other; socat gets one of them.
        Socket ours(AF_INET, SOCK_DGRAM), theirs(AF_INET, SOCK_DGRAM);
        ours.bind({"127.0.0.1", 0});
        theirs.bind({"127.0.0.1", 0});
        EventLoop& loop = get_running_loop();
        SocketAddress our_address = ours.getsockname(), their_address = theirs.getsockname();
        co_await loop.sock_connect(ours, their_address);
        co_await loop.sock_connect(theirs, our_address);
        std::vector<std::string> command{"socat", fmt::format("FD:{}", theirs.fileno()), "PIPE"};
        std::vector<int> inherited{theirs.fileno()};
        auto socat = co_await Process::start(command, std::vector<std::string>(), inherited);
        auto factory = [] { return std::make_shared<Receiving>(); };
        auto [transport, protocol] = co_await loop.create_datagram_endpoint(factory, std::move(ours));
        for (int i = 0; i < 100; ++i) {
            std::string message = fmt::format("message {}", i);
            transport->sendto(message);
            EXPECT_EQ(co_await protocol->messages.get(), message);
        }
        transport->close();
    }());
}

}  // namespace
