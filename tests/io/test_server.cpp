#include "coil/server.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::thrown_by;
using support::thrown_by_await;

namespace {

class Servers : public support::OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
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

}  // namespace
