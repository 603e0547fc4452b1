#include "coil/datagrams.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <any>
#include <cerrno>
#include <functional>
#include <memory>
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

using namespace coil;
using namespace std::chrono_literals;
using support::error_text;
using support::thrown_by;
using support::thrown_by_await;

namespace {

class Datagrams : public support::CountingOnBackend {};
ON_EVERY_BACKEND(Datagrams);

/// Remembers all that it is told.
class Recorder : public DatagramProtocol {
  public:
    void connection_made(std::shared_ptr<DatagramTransport>) override { events += "made "; }
    void datagram_received(std::string_view data, const SocketAddress& from) override {
        if (on_message) on_message();
        sender = from;
        inbox.put_nowait(std::string(data));
    }
    void error_received(std::exception_ptr error) override {
        errors.put_nowait(error_text(error));
        if (on_error) on_error();
    }
    void pause_writing() override { events += "pause "; }
    void resume_writing() override { events += "resume "; }
    void connection_lost(std::exception_ptr error) override {
        events += "lost(" + error_text(error) + ")";
        lost.set();
    }

    std::string events;
    SocketAddress sender;
    Queue<std::string> inbox;
    Queue<std::string> errors;
    Event lost;
    std::function<void()> on_message;
    std::function<void()> on_error;
    support::Alive here;
};

std::shared_ptr<Recorder> recorder() { return std::make_shared<Recorder>(); }

SocketAddress name_of(const std::shared_ptr<DatagramTransport>& transport) {
    return std::any_cast<SocketAddress>(transport->get_extra_info("sockname"));
}

Coro<> close(std::shared_ptr<DatagramTransport> transport, std::shared_ptr<Recorder> protocol) {
    transport->close();
    co_await protocol->lost.wait();
}

TEST_P(Datagrams, bound_and_connected_endpoints_talk) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        DatagramOptions here{.local_addr = {"127.0.0.1", 0}};
        auto [server, heard] = co_await loop.create_datagram_endpoint(recorder, here);
        SocketAddress address = name_of(server);
        EXPECT_FALSE(server->get_extra_info("peername").has_value());
        DatagramOptions both{.local_addr = {"127.0.0.2", 0}, .remote_addr = address};
        auto [client, answers] = co_await loop.create_datagram_endpoint(recorder, both);
        EXPECT_EQ(name_of(client).host, "127.0.0.2");
        EXPECT_EQ(std::any_cast<SocketAddress>(client->get_extra_info("peername")), address);
        client->sendto("one");
        client->sendto("");  // an empty message is a message
        client->sendto("two", address);
        EXPECT_EQ(co_await heard->inbox.get(), "one");
        EXPECT_EQ(co_await heard->inbox.get(), "");
        EXPECT_EQ(co_await heard->inbox.get(), "two");
        EXPECT_EQ(heard->sender, name_of(client));
        server->sendto("answer", heard->sender);
        EXPECT_EQ(co_await answers->inbox.get(), "answer");
        SocketAddress other{"127.0.0.1", 1};
        EXPECT_EQ(thrown_by([&] { client->sendto("x", other); }),
                  "ValueError: Invalid address: must be none or " + to_string(address));
        EXPECT_EQ(thrown_by([&] { server->sendto("x"); }),
                  "ValueError: sendto() needs an address: the endpoint is not connected");
        SocketAddress name{"localhost", 1};
        EXPECT_EQ(thrown_by([&] { server->sendto("x", name); }),
                  "ValueError: 'localhost' is not a numeric address of the socket's family");
        SocketAddress own = name_of(client);
        co_await close(client, answers);
        EXPECT_EQ(name_of(client), own);
        EXPECT_EQ(std::any_cast<SocketAddress>(client->get_extra_info("peername")), address);
        EXPECT_EQ(std::any_cast<TransportSocket>(client->get_extra_info("socket")).fileno(), -1);
        co_await close(server, heard);
        EXPECT_EQ(heard->events, "made lost(nothing)");
    }());
}

TEST_P(Datagrams, errors_of_earlier_messages_come_by_error_received) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        SocketAddress nobody;
        {
            Socket gone(AF_INET, SOCK_DGRAM);
            SocketAddress any{"127.0.0.1"};
            gone.bind(any);
            nobody = gone.getsockname();
        }
        DatagramOptions options{.remote_addr = nobody};
        auto [transport, protocol] = co_await loop.create_datagram_endpoint(recorder, options);
        for (int i = 0; i < 3; ++i) {
            transport->sendto("x");
            EXPECT_EQ(co_await protocol->errors.get(),
                      "ConnectionRefusedError: [Errno 111] Connection refused");
        }
        transport->sendto(std::string(70'000, 'x'));
        EXPECT_EQ(co_await protocol->errors.get(), "OSError: [Errno 90] Message too long");
        EXPECT_FALSE(transport->is_closing());
        // Closing, and aborting, inside the callback.
        protocol->on_error = [&] { transport->abort(); };
        transport->sendto(std::string(70'000, 'x'));
        EXPECT_TRUE(transport->is_closing());
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made lost(nothing)");
    }());
}

TEST_P(Datagrams, a_kernel_without_memory_is_an_error_received_and_no_end) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        DatagramOptions here{.local_addr = {"127.0.0.1", 0}};
        auto [bound, one] = co_await loop.create_datagram_endpoint(recorder, here);
        SocketAddress address = name_of(bound);
        DatagramOptions there{.remote_addr = address};
        auto [connected, two] = co_await loop.create_datagram_endpoint(recorder, there);
        connected->sendto("before");
        EXPECT_EQ(co_await one->inbox.get(), "before");
        if (!support::forbid_call(SYS_sendto, ENOBUFS)) co_return false;
        for (int i = 0; i < 3; ++i) {
            bound->sendto("x", address);
            connected->sendto("x");
            // Within the call.
            EXPECT_EQ(one->errors.get_nowait(), "OSError: [Errno 105] No buffer space available");
            EXPECT_EQ(two->errors.get_nowait(), "OSError: [Errno 105] No buffer space available");
        }
        EXPECT_EQ(bound->get_write_buffer_size() + connected->get_write_buffer_size(), 0u);
        EXPECT_FALSE(bound->is_closing() || connected->is_closing());
        co_await close(bound, one);
        co_await close(connected, two);
        EXPECT_EQ(one->events, "made lost(nothing)");
        co_return true;
    });
}

TEST_P(Datagrams, broadcast_needs_its_option) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        SocketAddress everybody{"127.255.255.255", 9};
        DatagramOptions plain{.local_addr = {"127.0.0.1", 0}};
        auto [narrow, told] = co_await loop.create_datagram_endpoint(recorder, plain);
        narrow->sendto("x", everybody);
        EXPECT_EQ(co_await told->errors.get(), "PermissionError: [Errno 13] Permission denied");
        DatagramOptions wide{.local_addr = {"127.0.0.1", 0}, .allow_broadcast = true};
        auto [broad, quiet] = co_await loop.create_datagram_endpoint(recorder, wide);
        broad->sendto("x", everybody);
        EXPECT_EQ(quiet->errors.qsize(), 0u);
        EXPECT_EQ(std::any_cast<TransportSocket>(broad->get_extra_info("socket"))
                      .getsockopt(SOL_SOCKET, SO_BROADCAST),
                  1);
        co_await close(narrow, told);
        co_await close(broad, quiet);
    }());
}

TEST_P(Datagrams, two_endpoints_share_a_port_by_reuse_port_only) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        DatagramOptions options{.local_addr = {"127.0.0.1", 0}, .reuse_port = true};
        auto [first, one] = co_await loop.create_datagram_endpoint(recorder, options);
        options.local_addr = {"127.0.0.1", name_of(first).port};
        auto [second, two] = co_await loop.create_datagram_endpoint(recorder, options);
        EXPECT_EQ(name_of(second), name_of(first));
        options.reuse_port = false;
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, options)),
                  "OSError: [Errno 98] Address already in use");
        co_await close(first, one);
        co_await close(second, two);
    }());
}

TEST_P(Datagrams, wrong_options_and_sockets_are_value_errors) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        DatagramOptions none;
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, none)),
                  "ValueError: unexpected address family");
        DatagramOptions mixed{.local_addr = {"127.0.0.1", 0}, .remote_addr = {"::1", 9}};
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, mixed)),
                  "ValueError: can not get address information");
        DatagramOptions port{.remote_addr = {"127.0.0.1", 70'000}};
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, port)),
                  "ValueError: a port is 0 to 65535, not 70000");
        auto [a, b] = Socket::pair();
        std::string at = std::to_string(a.fileno());
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, std::move(a))),
                  "ValueError: A datagram socket was expected, got descriptor " + at);
    }());
}

TEST_P(Datagrams, a_full_peer_pauses_the_protocol_and_close_flushes) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair(AF_UNIX, SOCK_DGRAM);
        auto [transport, protocol] = co_await loop.create_datagram_endpoint(recorder, std::move(a));
        transport->set_write_buffer_limits(100, 20);
        std::vector<std::string> sent;
        while (transport->get_write_buffer_size() <= 100) {
            sent.push_back(std::to_string(sent.size()));
            std::size_t before = transport->get_write_buffer_size();
            transport->sendto(sent.back());
            std::size_t grown = transport->get_write_buffer_size() - before;
            EXPECT_TRUE(grown == 0 || grown == sent.back().size() + 8);
        }
        EXPECT_EQ(protocol->events, "made pause ");
        transport->close();
        EXPECT_TRUE(transport->is_closing());
        for (const std::string& message : sent) EXPECT_EQ(co_await loop.sock_recv(b, 100), message);
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made pause resume lost(nothing)");
    }());
}

TEST_P(Datagrams, abort_drops_what_is_queued) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair(AF_UNIX, SOCK_DGRAM);
        auto [transport, protocol] = co_await loop.create_datagram_endpoint(recorder, std::move(a));
        while (transport->get_write_buffer_size() == 0) transport->sendto("x");
        transport->abort();
        EXPECT_EQ(transport->get_write_buffer_size(), 0u);
        EXPECT_FALSE(protocol->lost.is_set());
        for (int i = 0; i < 20; ++i) transport->sendto("x");
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made lost(nothing)");
    }());
    EXPECT_EQ(log.count("sendto() on a datagram transport that is lost"), 1u) << log.str();
}

TEST_P(Datagrams, unix_endpoints_have_paths) {
    support::TemporaryDirectory directory;
    run([](const support::TemporaryDirectory& place) -> Coro<> {
        EventLoop& loop = get_running_loop();
        std::string path = place.path("endpoint");
        DatagramOptions options{.local_addr = {path}, .family = AF_UNIX};
        {
            auto [stale, protocol] = co_await loop.create_datagram_endpoint(recorder, options);
            co_await close(stale, protocol);
        }
        // The file that it has left is replaced.
        auto [server, heard] = co_await loop.create_datagram_endpoint(recorder, options);
        DatagramOptions to{.remote_addr = {path}, .family = AF_UNIX};
        auto [client, protocol] = co_await loop.create_datagram_endpoint(recorder, to);
        client->sendto("hello");
        EXPECT_EQ(co_await heard->inbox.get(), "hello");
        EXPECT_EQ(heard->sender, SocketAddress{});
        co_await close(client, protocol);
        co_await close(server, heard);
        std::string file = place.write("file", "no socket");
        DatagramOptions taken{.local_addr = {file}, .family = AF_UNIX};
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(recorder, taken)),
                  "OSError: [Errno 98] Address already in use");
    }(directory));
}

TEST_P(Datagrams, exceptions_in_callbacks_end_the_endpoint_and_are_reported) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        EventLoop& loop = get_running_loop();
        told.record(loop);
        auto fail = [] { throw ValueError("no"); };
        auto [a, b] = Socket::pair(AF_UNIX, SOCK_DGRAM);
        auto [transport, protocol] = co_await loop.create_datagram_endpoint(recorder, std::move(a));
        protocol->on_message = fail;
        co_await loop.sock_sendall(b, "x");
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made lost(ValueError: no)");

        auto [other, at_error] = co_await loop.create_datagram_endpoint(recorder, std::move(b));
        at_error->on_error = fail;
        other->sendto("x");  // to a peer that is gone
        co_await at_error->lost.wait();
        EXPECT_EQ(at_error->events, "made lost(ValueError: no)");
    }(reports));
    std::vector<std::string> expected{
        "Fatal error: protocol.datagram_received() call failed.: ValueError: no",
        "Fatal error: protocol.error_received() call failed.: ValueError: no"};
    EXPECT_EQ(reports.texts(), expected);
}

TEST_P(Datagrams, can_be_cancelled_at_every_turn) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        DatagramOptions options{.local_addr = {"127.0.0.1", 0}, .remote_addr = {"127.0.0.1", 9}};
        for (int round = 0; round < 1000; ++round) {
            auto task = create_task(loop.create_datagram_endpoint(recorder, options));
            co_await support::turns(round % 7);
            task.cancel();
            auto outcome = co_await try_await(std::move(task));
            if (outcome) outcome.value().transport->close();
            co_await support::turns(2);
        }
    }());
}

TEST_P(Datagrams, a_loop_that_is_closed_takes_its_endpoints_with_it) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        DatagramOptions options{.local_addr = {"127.0.0.1", 0}};
        co_await get_running_loop().create_datagram_endpoint(recorder, options);
    }());
    EXPECT_EQ(log.count("unclosed datagram transport"), 1u) << log.str();
}

}  // namespace
