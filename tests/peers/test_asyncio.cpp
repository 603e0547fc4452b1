// asyncio itself, by peer.py: the same dialogue as client and as server, over every transport.

#include <any>
#include <optional>

#include "peers/fixture.hpp"

using namespace coil;
using namespace peers;
using support::certificates;
using support::client_context;
using support::server_context;

namespace {

using peers::Process;  // not coil's

class AsyncioPeers : public Peers {};
ON_EVERY_BACKEND(AsyncioPeers);

Coro<Process> python(std::string role, std::string kind, std::string argument, std::string file) {
    std::vector<std::string> command{
        "/usr/bin/python3", COIL_PEERS_DIR "/peer.py", role, kind, argument, file};
    return Process::start(std::move(command));
}

Coro<int> ready(Process& process) {
    std::string line = co_await process.line_with("ready ");
    co_return std::stoi(line.substr(6));
}

Coro<> ended_well(Process& process) {
    auto ended = co_await process.finish();
    EXPECT_EQ(ended.exit_code, 0) << ended.output;
    EXPECT_TRUE(ended.output.ends_with("ok\n")) << ended.output;
}

/// peer.py has the other halves of these.
Coro<> ask(StreamReader reader, StreamWriter writer) {
    writer.write("hello\n");
    EXPECT_EQ(co_await reader.readline(), "hello\n");
    std::string data(3'000'000, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 1000);
    writer.write(fmt::format("{}\n", data.size()));
    writer.write(data);
    co_await writer.drain();
    EXPECT_TRUE(co_await reader.readexactly(data.size()) == data);
    if (writer.can_write_eof()) {
        writer.write_eof();
    } else {
        writer.write("bye\n");
    }
    EXPECT_EQ(co_await reader.read(), "");
    co_await hang_up(writer);
}

Coro<> answer(StreamReader reader, StreamWriter writer) {
    writer.write(co_await reader.readline());
    std::size_t size = std::stoul(co_await reader.readline());
    writer.write(co_await reader.readexactly(size));
    co_await writer.drain();
    std::string last = co_await reader.readline();
    EXPECT_EQ(last, writer.can_write_eof() ? "" : "bye\n");
    co_await hang_up(writer);
}

Coro<> upgraded_answer(StreamReader reader, StreamWriter writer) {
    EXPECT_EQ(co_await reader.readline(), "STARTTLS\n");
    writer.write("go ahead\n");
    co_await writer.start_tls(server_context());
    co_await answer(reader, writer);
}

TEST_P(AsyncioPeers, is_asked_by_tcp_tls_and_starttls) {
    run([]() -> Coro<> {
        SslContext context = client_context();
        for (const char* kind : {"tcp", "tls", "starttls"}) {
            auto process = co_await python("serve", kind, "", certificates().server_file);
            int port = co_await ready(process);
            ConnectionOptions options;
            if (std::string_view(kind) == "tls") options.ssl = &context;
            auto [reader, writer] = co_await open_connection("127.0.0.1", port, options);
            if (std::string_view(kind) == "starttls") {
                writer.write("STARTTLS\n");
                EXPECT_EQ(co_await reader.readline(), "go ahead\n");
                co_await writer.start_tls(context, {.server_hostname = "localhost"});
            }
            co_await ask(reader, writer);
            co_await ended_well(process);
        }
    }());
}

TEST_P(AsyncioPeers, asks_by_tcp_tls_and_starttls) {
    run([]() -> Coro<> {
        SslContext context = server_context();
        for (const char* kind : {"tcp", "tls", "starttls"}) {
            ServerOptions options;
            if (std::string_view(kind) == "tls") options.ssl = &context;
            ClientConnected serve = answer;
            if (std::string_view(kind) == "starttls") serve = upgraded_answer;
            Server server = co_await start_server(serve, "127.0.0.1", 0, options);
            auto process =
                co_await python("connect", kind, std::to_string(port_of(server)), certificates().ca_file);
            co_await ended_well(process);
            server.close();
            co_await server.wait_closed();
        }
    }());
}

TEST_P(AsyncioPeers, speaks_over_unix_sockets_both_ways) {
    run([]() -> Coro<> {
        support::TemporaryDirectory directory;
        std::string theirs = directory.path("theirs.sock"), ours = directory.path("ours.sock");
        auto serving = co_await python("serve", "unix", theirs, "");
        co_await ready(serving);
        auto [reader, writer] = co_await open_unix_connection(theirs);
        co_await ask(reader, writer);
        co_await ended_well(serving);

        Server server = co_await start_unix_server(answer, ours);
        auto asking = co_await python("connect", "unix", ours, "");
        co_await ended_well(asking);
        server.close();
        co_await server.wait_closed();
    }());
}

/// Sends back what comes, and hands it to the test.
class Echo : public DatagramProtocol {
  public:
    explicit Echo(bool answers) : answers_(answers) {}
    void connection_made(std::shared_ptr<DatagramTransport> its) override { transport_ = std::move(its); }
    void datagram_received(std::string_view data, const SocketAddress& address) override {
        if (answers_) transport_->sendto(data, address);
        messages.put_nowait(std::string(data));
    }
    void connection_lost(std::exception_ptr) override { transport_ = nullptr; }
    Queue<std::string> messages;

  private:
    std::shared_ptr<DatagramTransport> transport_;
    bool answers_;
};

TEST_P(AsyncioPeers, speaks_by_udp_both_ways) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto serving = co_await python("serve", "udp", "", "");
        int port = co_await ready(serving);
        auto quiet = [] { return std::make_shared<Echo>(false); };
        auto [client, answers] =
            co_await loop.create_datagram_endpoint(quiet, {.remote_addr = {"127.0.0.1", port}});
        std::vector<std::string> messages{"one", std::string(50'000, 'x'), "bye"};
        for (const std::string& message : messages) {
            client->sendto(message);
            EXPECT_TRUE(co_await answers->messages.get() == message);
        }
        co_await ended_well(serving);
        client->close();

        auto echoing = [] { return std::make_shared<Echo>(true); };
        auto [server, heard] =
            co_await loop.create_datagram_endpoint(echoing, {.local_addr = {"127.0.0.1", 0}});
        int our_port = std::any_cast<SocketAddress>(server->get_extra_info("sockname")).port;
        auto asking = co_await python("connect", "udp", std::to_string(our_port), "");
        co_await ended_well(asking);
        EXPECT_EQ(heard->messages.qsize(), 2u);
        server->close();
    }());
}

}  // namespace
