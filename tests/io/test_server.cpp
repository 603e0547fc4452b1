#include "coil/server.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <any>
#include <cerrno>
#include <map>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/certificates.hpp"
#include "support/child.hpp"
#include "support/counting.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::thrown_by;
using support::thrown_by_await;

namespace {

class Servers : public support::CountingOnBackend {};
ON_EVERY_BACKEND(Servers);

int port_of(const Server& server) { return server.sockets().at(0).getsockname().port; }

Coro<> read_to_end(StreamReader reader, StreamWriter writer) {
    co_await reader.read();
    writer.close();
    co_await writer.wait_closed();
}

TEST_P(Servers, wait_closed_waits_for_live_connections) {
    run([]() -> Coro<> {
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        co_await coil::sleep(10ms);
        EXPECT_TRUE(server.is_serving());
        server.close();
        server.close();
        EXPECT_FALSE(server.is_serving());
        EXPECT_TRUE(server.sockets().empty());
        auto waiting = create_task(server.wait_closed());
        co_await coil::sleep(10ms);
        EXPECT_FALSE(waiting.done());
        writer.close();
        co_await waiting;
        co_await server.wait_closed();
    }());
}

TEST_P(Servers, what_waits_keeps_the_server_from_the_call_on) {
    run([]() -> Coro<> {
        Task<> serving, closing;
        {
            Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
            closing = create_task(server.wait_closed());
            server.close();
            Server idle = co_await start_server(read_to_end, "127.0.0.1", 0, {.start_serving = false});
            serving = create_task(idle.serve_forever());
        }  // neither task has begun
        co_await closing;
        co_await coil::sleep(0s);
        EXPECT_FALSE(serving.done());
        serving.cancel();
        EXPECT_EQ(co_await thrown_by_await(serving), "CancelledError");
    }());
}

TEST_P(Servers, close_clients_and_abort_clients_end_the_connections) {
    run([]() -> Coro<> {
        for (bool abort : {false, true}) {
            Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
            auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
            co_await coil::sleep(10ms);
            server.close();
            abort ? server.abort_clients() : server.close_clients();
            co_await server.wait_closed();
            EXPECT_EQ(co_await reader.read(), "");
            writer.close();
        }
    }());
}

TEST_P(Servers, close_clients_ends_tls_as_a_close_by_the_program_would) {
    run([]() -> Coro<> {
        SslContext serving = support::server_context();
        SslContext asking = support::client_context();
        // More than the kernel takes: what is buffered goes out before the end.
        constexpr std::size_t SIZE = 20'000'000;
        auto send_much = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            writer.write(std::string(SIZE, 'x'));
            co_await reader.read();
            writer.close();
        };
        Server server = co_await start_server(send_much, "127.0.0.1", 0, {.ssl = &serving});
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server),
                                                         {.ssl = &asking, .server_hostname = "localhost"});
        co_await reader.readexactly(1);
        server.close();
        server.close_clients();
        std::string rest = co_await reader.read();  // SslEofError if the stream was cut off
        EXPECT_EQ(rest.size(), SIZE - 1);
        writer.close();
        co_await writer.wait_closed();
        co_await server.wait_closed();
    }());
}

TEST_P(Servers, serve_forever_ends_with_its_cancellation_and_with_close) {
    run([]() -> Coro<> {
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0, {.start_serving = false});
        EXPECT_FALSE(server.is_serving());
        auto serving = create_task(server.serve_forever());
        co_await coil::sleep(0s);
        EXPECT_TRUE(server.is_serving());
        EXPECT_EQ(co_await thrown_by_await(server.serve_forever()),
                  "RuntimeError: server is already being awaited on serve_forever()");
        serving.cancel();
        co_await try_await(serving);
        EXPECT_TRUE(serving.cancelled());
        EXPECT_EQ(co_await thrown_by_await(server.serve_forever()), "RuntimeError: server is closed");
        EXPECT_EQ(co_await thrown_by_await(server.start_serving()), "RuntimeError: server is closed");

        Server other = co_await start_server(read_to_end, "127.0.0.1", 0);
        auto until_closed = create_task(other.serve_forever());
        co_await coil::sleep(0s);
        other.close();
        co_await try_await(until_closed);
        EXPECT_TRUE(until_closed.cancelled());
    }());
}

TEST_P(Servers, a_server_serves_on_when_its_handle_is_gone) {
    run([]() -> Coro<> {
        int port = 0;
        {
            Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
            port = port_of(server);
        }
        auto [reader, writer] = co_await open_connection("127.0.0.1", port);
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        co_await writer.wait_closed();
    }());
}

TEST_P(Servers, a_loop_that_is_closed_takes_the_connections_of_a_closed_server_with_it) {
    support::LogRecorder log;
    std::vector<std::shared_ptr<Transport>> survivors;
    struct Keeps final : Protocol {
        explicit Keeps(std::vector<std::shared_ptr<Transport>>& all) : transports(all) {}
        void connection_made(std::shared_ptr<Transport> transport) override {
            transports.push_back(std::move(transport));
        }
        std::vector<std::shared_ptr<Transport>>& transports;
    };
    run([](std::vector<std::shared_ptr<Transport>>& transports) -> Coro<> {
        auto factory = [&] { return std::make_shared<Keeps>(transports); };
        Server server = co_await get_running_loop().create_server(factory, "127.0.0.1", 0);
        int port = port_of(server);
        auto [first, second] =
            co_await gather(get_running_loop().create_connection(factory, "127.0.0.1", port),
                            get_running_loop().create_connection(factory, "127.0.0.1", port));
        while (transports.size() < 4) co_await coil::sleep(0s);
        server.close();
    }(survivors));
    EXPECT_EQ(log.count("unclosed transport"), 4u) << log.str();
    for (auto& transport : survivors) EXPECT_TRUE(transport->is_closing());
}

TEST_P(Servers, async_with_closes_the_server_at_the_end) {
    run([]() -> Coro<> {
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        auto body = [](Server& open) -> Coro<bool> { co_return open.is_serving(); };
        EXPECT_TRUE(co_await async_with(server, body));
        EXPECT_FALSE(server.is_serving());
    }());
}

TEST_P(Servers, the_port_is_free_at_once_after_close) {
    run([]() -> Coro<> {
        Server first = co_await start_server(read_to_end, "127.0.0.1", 0);
        int port = port_of(first);
        EXPECT_THROW(co_await start_server(read_to_end, "127.0.0.1", port), OSError);
        first.close();
        Server second = co_await start_server(read_to_end, "127.0.0.1", port);
        EXPECT_EQ(port_of(second), port);
        second.close();
    }());
}

TEST_P(Servers, a_server_without_descriptors_survives_says_so_and_goes_on) {
    // Looked at when there are descriptors again: UBSan needs some to check an object.
    std::vector<ExceptionContext> reports;
    run([](std::vector<ExceptionContext>& told) -> Coro<> {
        get_running_loop().set_exception_handler(
            [&told](EventLoop&, const ExceptionContext& context) { told.push_back(context); });
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        // All but one descriptor are taken: the client's socket takes that one.
        std::vector<int> hoard;
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        rlimit tight = before;
        tight.rlim_cur = support::open_fds() + 20;
        ::setrlimit(RLIMIT_NOFILE, &tight);
        for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) hoard.push_back(fd);
        ::close(hoard.back());
        hoard.pop_back();
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        while (told.empty()) co_await coil::sleep(5ms);
        for (int fd : hoard) ::close(fd);
        ::setrlimit(RLIMIT_NOFILE, &before);
        // It listens again after a second, and takes the connection that waited.
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        co_await writer.wait_closed();
        server.close();
        co_await server.wait_closed();
    }(reports));
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message, "socket.accept() out of system resource");
    EXPECT_EQ(support::error_text(reports[0].exception), "OSError: [Errno 24] Too many open files");
}

TEST_P(Servers, a_server_without_kernel_memory_says_so_and_tries_again_each_second) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        Queue<std::string> told;
        loop.set_exception_handler([&told](EventLoop&, const ExceptionContext& context) {
            told.put_nowait(context.message + ": " + support::error_text(context.exception));
        });
        std::vector<std::string> hosts{"127.0.0.1", "127.0.0.2"};
        Server server = co_await start_server(read_to_end, hosts, 0);
        std::vector<Socket> clients;
        for (std::size_t i = 0; i < 2; ++i) {
            TransportSocket listener = server.sockets().at(i);
            if (!support::forbid_call(SYS_accept4, i == 0 ? ENOBUFS : ENOMEM, listener.fileno()))
                co_return false;
            clients.emplace_back(AF_INET, SOCK_STREAM);
            SocketAddress address = listener.getsockname();
            co_await loop.sock_connect(clients.back(), address);
        }
        const std::string text = "socket.accept() out of system resource: OSError: ";
        std::map<std::string, std::vector<TimePoint>> reports;
        auto all_twice = [&] {
            return reports.size() >= 2 &&
                   std::ranges::all_of(reports, [](const auto& one) { return one.second.size() >= 2; });
        };
        while (!all_twice()) {
            std::string report = co_await told.get();
            reports[report].push_back(loop.time());
        }
        EXPECT_EQ(reports.begin()->first, text + "[Errno 105] No buffer space available");
        EXPECT_EQ(reports.rbegin()->first, text + "[Errno 12] Cannot allocate memory");
        for (const auto& [report, times] : reports) EXPECT_GT(times[1] - times[0], 900ms) << report;
        EXPECT_TRUE(server.is_serving());
        server.close();
        co_await server.wait_closed();
        co_return true;
    });
}

TEST_P(Servers, an_unknown_error_of_accept_is_told_and_does_not_end_the_server) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        Queue<std::string> told;
        loop.set_exception_handler([&told](EventLoop&, const ExceptionContext& context) {
            told.put_nowait(context.message + ": " + support::error_text(context.exception));
        });
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        SocketAddress address = server.sockets().at(0).getsockname();
        if (!support::forbid_call(SYS_accept4, EHOSTUNREACH)) co_return false;
        Socket client(AF_INET, SOCK_STREAM);
        co_await loop.sock_connect(client, address);
        const std::string text = "Accepting connections failed: OSError: [Errno 113] No route to host";
        EXPECT_EQ(co_await told.get(), text);
        TimePoint first = loop.time();
        EXPECT_TRUE(server.is_serving());
        EXPECT_EQ(co_await told.get(), text);
        EXPECT_GT(loop.time() - first, 900ms);
        // The handler may close the server, which does not come back then.
        loop.set_exception_handler([&](EventLoop&, const ExceptionContext&) { server.close(); });
        co_await server.wait_closed();
        co_await coil::sleep(1100ms);
        EXPECT_FALSE(server.is_serving());
        co_return true;
    });
}

TEST_P(Servers, a_listener_that_is_broken_ends_the_server_and_says_so) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        std::vector<std::string> told;
        loop.set_exception_handler([&told](EventLoop&, const ExceptionContext& context) {
            told.push_back(context.message + ": " + support::error_text(context.exception));
        });
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        auto serving = create_task(server.serve_forever());
        co_await coil::sleep(0s);
        ::shutdown(server.sockets().at(0).fileno(), SHUT_RDWR);
        EXPECT_EQ(co_await thrown_by_await(serving), "OSError: [Errno 22] Invalid argument");
        EXPECT_FALSE(server.is_serving());
        EXPECT_EQ(told,
                  std::vector<std::string>{"Accepting connections failed; the server no longer listens on "
                                           "this socket: OSError: [Errno 22] Invalid argument"});
        co_await server.wait_closed();
    }());
}

TEST_P(Servers, another_owner_of_the_listening_socket_goes_on_listening) {
    run([]() -> Coro<> {
        Socket listening(AF_INET, SOCK_STREAM);
        SocketAddress any{"127.0.0.1"};
        listening.bind(any);
        listening.listen();
        Socket others = Socket::adopt(::dup(listening.fileno()));  // as in a forked worker, or systemd
        Server server = co_await start_server(read_to_end, std::move(listening));
        co_await coil::sleep(1ms);
        server.close();
        co_await server.wait_closed();
        int listens = 0;
        socklen_t size = sizeof listens;
        ::getsockopt(others.fileno(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
        EXPECT_EQ(listens, 1);
    }());
}

TEST_P(Servers, clients_wait_while_the_queue_is_full_and_are_served_when_it_is_taken_from) {
    std::size_t fds = support::open_fds();
    run([]() -> Coro<> {
        auto greet = [](StreamReader, StreamWriter writer) -> Coro<> {
            writer.write("welcome");
            writer.close();
            co_await writer.wait_closed();
        };
        Socket socket = support::listening(0);  // one may queue
        int port = socket.getsockname().port;
        Server server = co_await start_server(greet, std::move(socket), {.start_serving = false});
        auto [first_reader, first_writer] = co_await open_connection("127.0.0.1", port);
        std::size_t before = support::open_fds();
        std::vector<Task<Streams>> waiting;
        for (int i = 0; i < 6; ++i) waiting.push_back(create_task(open_connection("127.0.0.1", port)));
        co_await support::turns(5);
        EXPECT_EQ(support::open_fds(), before + 6);
        for (auto& client : waiting) EXPECT_FALSE(client.done());
        for (int i = 0; i < 3; ++i) {
            waiting.back().cancel();
            co_await try_await(waiting.back());
            EXPECT_TRUE(waiting.back().cancelled());
            waiting.pop_back();
        }
        EXPECT_EQ(support::open_fds(), before + 3);
        co_await server.start_serving();
        EXPECT_EQ(co_await first_reader.read(), "welcome");
        first_writer.close();
        for (auto& client : waiting) {  // their kernel asks again after a second
            auto [reader, writer] = co_await client;
            EXPECT_EQ(co_await reader.read(), "welcome");
            writer.close();
            co_await writer.wait_closed();
        }
        server.close();
        co_await server.wait_closed();
    }());
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(Servers, closing_while_clients_connect_loses_no_descriptor) {
    std::size_t fds = support::open_fds();
    for (int round = 0; round < 50; ++round) {
        run([](int turns) -> Coro<> {
            Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
            int port = port_of(server);
            std::vector<Task<Streams>> clients;
            for (int i = 0; i < 10; ++i) clients.push_back(create_task(open_connection("127.0.0.1", port)));
            co_await support::turns(turns);
            server.close();
            for (auto& client : clients) {
                auto outcome = co_await try_await(client);
                if (outcome) outcome.value().writer.close();
            }
            server.close_clients();
            co_await server.wait_closed();
        }(round % 10));
    }
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(Servers, a_thousand_connections_come_and_go) {
    run([]() -> Coro<> {
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0);
        auto visit = [](int port) -> Coro<> {
            auto [reader, writer] = co_await open_connection("127.0.0.1", port);
            writer.write("hello");
            writer.write_eof();
            EXPECT_EQ(co_await reader.read(), "");
            writer.close();
            co_await writer.wait_closed();
        };
        for (int round = 0; round < 10; ++round) {
            std::vector<Coro<>> visits;
            for (int i = 0; i < 100; ++i) visits.push_back(visit(port_of(server)));
            co_await gather(std::move(visits));
        }
        server.close();
        co_await server.wait_closed();
    }());
}

// ---- several hosts, options, Unix sockets

TEST_P(Servers, several_hosts_and_each_address_once) {
    run([]() -> Coro<> {
        std::vector<std::string> hosts{"127.0.0.1", "127.0.0.2", "127.0.0.1"};
        Server server = co_await start_server(read_to_end, hosts, 0);
        EXPECT_EQ(server.sockets().size(), 2u);
        EXPECT_EQ(server.sockets().at(0).getsockname().host, "127.0.0.1");
        EXPECT_EQ(server.sockets().at(1).getsockname().host, "127.0.0.2");
        server.close();
        std::vector<std::string> elsewhere{"192.0.2.1"};
        EXPECT_EQ(co_await thrown_by_await(start_server(read_to_end, elsewhere, 0)),
                  "OSError: could not bind on any address out of [('192.0.2.1', 0)]");
    }());
}

TEST_P(Servers, two_share_a_port_by_reuse_port_only) {
    run([]() -> Coro<> {
        ServerOptions options{.reuse_port = true};
        Server first = co_await start_server(read_to_end, "127.0.0.1", 0, options);
        Server second = co_await start_server(read_to_end, "127.0.0.1", port_of(first), options);
        EXPECT_EQ(port_of(second), port_of(first));
        EXPECT_THROW((co_await try_await(start_server(read_to_end, "127.0.0.1", port_of(first)))).value(),
                     OSError);
        first.close();
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(second));
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        second.close();
        co_await second.wait_closed();
    }());
}

TEST_P(Servers, keep_alive_holds_for_each_connection) {
    run([]() -> Coro<> {
        for (bool keep : {true, false}) {
            int seen = -1;
            auto look = [&](StreamReader reader, StreamWriter writer) -> Coro<> {
                auto socket = std::any_cast<TransportSocket>(writer.get_extra_info("socket"));
                seen = socket.getsockopt(SOL_SOCKET, SO_KEEPALIVE);
                EXPECT_EQ(socket.getsockopt(IPPROTO_TCP, TCP_NODELAY), 1);
                co_await reader.read();
                writer.close();
            };
            ServerOptions options{.keep_alive = keep};
            Server server = co_await start_server(look, "127.0.0.1", 0, options);
            auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
            writer.write_eof();
            EXPECT_EQ(co_await reader.read(), "");
            EXPECT_EQ(seen, keep ? 1 : 0);
            writer.close();
            server.close();
            co_await server.wait_closed();
        }
    }());
}

TEST_P(Servers, on_a_socket_that_is_bound) {
    run([]() -> Coro<> {
        Socket socket(AF_INET, SOCK_STREAM);
        SocketAddress any{"127.0.0.1"};
        socket.bind(any);
        int port = socket.getsockname().port;
        Server server = co_await start_server(read_to_end, std::move(socket));
        EXPECT_EQ(port_of(server), port);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port);
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        server.close();
        co_await server.wait_closed();
        Socket datagram(AF_INET, SOCK_DGRAM);
        std::string at = std::to_string(datagram.fileno());
        EXPECT_EQ(co_await thrown_by_await(start_server(read_to_end, std::move(datagram))),
                  "ValueError: A Stream Socket was expected, got descriptor " + at);
    }());
}

TEST_P(Servers, a_unix_server_replaces_a_stale_socket_and_removes_its_own) {
    support::TemporaryDirectory directory;
    run([](const support::TemporaryDirectory& place) -> Coro<> {
        std::string path = place.path("socket");
        auto exists = [&] { return ::access(path.c_str(), F_OK) == 0; };
        UnixServerOptions leave{.cleanup_socket = false};
        Server stale = co_await start_unix_server(read_to_end, path, leave);
        stale.close();
        EXPECT_TRUE(exists());
        Server first = co_await start_unix_server(read_to_end, path);
        auto [reader, writer] = co_await open_unix_connection(path);
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        // A second one takes the path; what the first one removes is not the second one's.
        Server second = co_await start_unix_server(read_to_end, path);
        first.close();
        EXPECT_TRUE(exists());
        second.close();
        EXPECT_FALSE(exists());
        std::string file = place.write("file", "no socket");
        EXPECT_EQ(co_await thrown_by_await(start_unix_server(read_to_end, file)),
                  "OSError: [Errno 98] Address '" + file + "' is already in use");
        EXPECT_EQ(::access(file.c_str(), F_OK), 0);
    }(directory));
}

TEST_P(Servers, a_unix_server_may_have_an_abstract_name) {
    run([]() -> Coro<> {
        std::string name("\0coil-test-server-", 18);
        name += std::to_string(::getpid());
        Server server = co_await start_unix_server(read_to_end, name);
        EXPECT_EQ(server.sockets().at(0).getsockname().host, name);
        auto [reader, writer] = co_await open_unix_connection(name);
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        writer.close();
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(Servers, many_clients_are_aborted_at_once) {
    std::size_t fds = support::open_fds();
    run([]() -> Coro<> {
        Server server = co_await start_server(read_to_end, "127.0.0.1", 0, {.backlog = 1000});
        std::vector<Streams> clients;
        for (int i = 0; i < 400; ++i)
            clients.push_back(co_await open_connection("127.0.0.1", port_of(server)));
        co_await coil::sleep(10ms);
        server.close();
        server.abort_clients();
        co_await server.wait_closed();
        for (auto& client : clients) {
            EXPECT_EQ(co_await client.reader.read(), "");
            client.writer.close();
        }
        co_await support::turns(3);
    }());
    EXPECT_EQ(support::open_fds(), fds);
}

}  // namespace
