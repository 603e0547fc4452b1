#include "coil/connections.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <any>
#include <array>
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
#include "support/sockets.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::close_hard;
using support::error_text;
using support::tcp_pair;
using support::thrown_by;
using support::thrown_by_await;

namespace {

class Connections : public support::CountingOnBackend {};
ON_EVERY_BACKEND(Connections);

/// Remembers all that it is told; each callback can be given something to do.
class Recorder : public Protocol {
  public:
    void connection_made(std::shared_ptr<Transport> made) override {
        events += "made ";
        transport = made;
        if (on_made) on_made(*made);
    }
    void data_received(std::string_view bytes) override {
        data += bytes;
        arrived.set();
        if (on_data) on_data(bytes);
    }
    bool eof_received() override {
        events += "eof ";
        ended.set();
        if (on_eof) on_eof();
        return keep_open;
    }
    void pause_writing() override {
        events += "pause ";
        if (on_pause) on_pause();
    }
    void resume_writing() override {
        events += "resume ";
        if (on_resume) on_resume();
    }
    void connection_lost(std::exception_ptr error) override {
        events += "lost(" + error_text(error) + ")";
        lost.set();
        if (on_lost) on_lost();
    }

    std::string events;
    std::string data;
    bool keep_open = false;
    std::weak_ptr<Transport> transport;
    std::function<void(Transport&)> on_made;
    std::function<void(std::string_view)> on_data;
    std::function<void()> on_eof;
    std::function<void()> on_pause;
    std::function<void()> on_resume;
    std::function<void()> on_lost;
    Event arrived;
    Event ended;
    Event lost;
    support::Alive here;
};

std::shared_ptr<Recorder> recorder() { return std::make_shared<Recorder>(); }

/// A listening socket for this address, whose port is then known.
Socket listen_on(int family, const std::string& host, int port = 0) {
    Socket socket(family, SOCK_STREAM);
    int on = 1;
    socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, on);
    if (family == AF_INET6) socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, on);
    socket.bind({host, port});
    socket.listen(100);
    return socket;
}

/// A port on which nobody listens.
int dead_port() {
    Socket gone = listen_on(AF_INET, "127.0.0.1");
    return gone.getsockname().port;
}

/// What arrives at a raw socket until its end.
Coro<std::string> receive_all(const Socket& socket, std::size_t step = 65536) {
    std::string all;
    for (;;) {
        std::string part = co_await get_running_loop().sock_recv(socket, step);
        if (part.empty()) co_return all;
        all += part;
    }
}

// ---- connecting

TEST_P(Connections, by_host_and_by_socket) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listen_on(AF_INET, "127.0.0.1");
        auto [transport, protocol] =
            co_await loop.create_connection(recorder, "127.0.0.1", server.getsockname().port);
        EXPECT_EQ(protocol->events, "made ");
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("peername")), server.getsockname());
        auto socket = std::any_cast<TransportSocket>(transport->get_extra_info("socket"));
        EXPECT_EQ(socket.getsockopt(IPPROTO_TCP, TCP_NODELAY), 1);
        EXPECT_FALSE(transport->get_extra_info("no such thing").has_value());
        EXPECT_EQ(transport->get_protocol(), protocol);
        auto [connection, address] = co_await loop.sock_accept(server);
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("sockname")), address);

        auto [other, accepted] = co_await loop.connect_accepted_socket(recorder, std::move(connection));
        other->write("hello");
        co_await protocol->arrived.wait();
        EXPECT_EQ(protocol->data, "hello");
        transport->close();
        co_await accepted->lost.wait();
        EXPECT_EQ(accepted->events, "made eof lost(nothing)");
        EXPECT_EQ(protocol->events, "made lost(nothing)");
        EXPECT_EQ(std::any_cast<TransportSocket>(transport->get_extra_info("socket")).fileno(), -1);
    }());
}

struct Names {
    SocketAddress peer;
    SocketAddress own;
    friend bool operator==(const Names&, const Names&) = default;
};

Names names_of(const Transport& transport) {
    return {std::any_cast<SocketAddress>(transport.get_extra_info("peername")),
            std::any_cast<SocketAddress>(transport.get_extra_info("sockname"))};
}

/// One end of a connection, and what its names were when it was told of the loss.
struct NamedEnd {
    explicit NamedEnd(std::shared_ptr<Recorder> its_protocol) : protocol(std::move(its_protocol)) {
        protocol->on_made = [this](Transport& made) {
            transport = protocol->transport.lock();
            first = names_of(made);
        };
        protocol->on_lost = [this] { at_loss = names_of(*transport); };
    }
    std::shared_ptr<Recorder> protocol;
    std::shared_ptr<Transport> transport;
    Names first;
    Names at_loss;
};

TEST_P(Connections, the_names_stay_when_a_connection_has_ended) {
    support::TemporaryDirectory directory;
    run([](std::string path) -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (std::string host : {std::string("127.0.0.1"), std::string("::1"), path}) {
            for (bool reset : {false, true}) {
                NamedEnd ours(recorder());
                NamedEnd theirs(recorder());
                auto their_protocol = [&] { return theirs.protocol; };
                auto our_protocol = [&] { return ours.protocol; };
                Coro<Server> starting = host == path ? loop.create_unix_server(their_protocol, path)
                                                     : loop.create_server(their_protocol, host, 0);
                Server server = co_await std::move(starting);
                SocketAddress at = server.sockets().front().getsockname();
                Coro<Connected<Transport, Recorder>> connecting =
                    host == path ? loop.create_unix_connection(our_protocol, path)
                                 : loop.create_connection(our_protocol, host, at.port);
                co_await std::move(connecting);
                while (!theirs.transport) co_await sleep(0s);
                EXPECT_EQ(ours.first, (Names{at, theirs.first.peer}));
                EXPECT_EQ(theirs.first.own, at);
                EXPECT_EQ(theirs.first.peer.host, host == path ? "" : host);
                if (reset)
                    close_hard(std::any_cast<TransportSocket>(theirs.transport->get_extra_info("socket")));
                theirs.transport->close();
                co_await ours.protocol->lost.wait();
                co_await theirs.protocol->lost.wait();
                for (const NamedEnd* end : {&ours, &theirs}) {
                    EXPECT_EQ(end->at_loss, end->first);
                    EXPECT_EQ(names_of(*end->transport), end->first);
                }
                server.close();
                co_await server.wait_closed();
            }
        }
    }(directory.path("socket")));
}

TEST_P(Connections, a_socket_that_does_not_fit_is_a_value_error) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket none;
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, std::move(none))),
                  "ValueError: the socket is not open");
        Socket datagram(AF_INET, SOCK_DGRAM);
        std::string text = "ValueError: A Stream Socket was expected, got descriptor ";
        int fd = datagram.fileno();
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, std::move(datagram))),
                  text + std::to_string(fd));
        Socket other(AF_INET, SOCK_DGRAM);
        fd = other.fileno();
        EXPECT_EQ(co_await thrown_by_await(loop.connect_accepted_socket(recorder, std::move(other))),
                  text + std::to_string(fd));
        for (int port : {-1, 65'536}) {
            EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", port)),
                      "ValueError: a port is 0 to 65535, not " + std::to_string(port));
        }
    }());
}

TEST_P(Connections, options_of_tls_without_tls_are_value_errors) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        ConnectionOptions named{.server_hostname = "localhost"};
        ConnectionOptions handshake{.ssl_handshake_timeout = 1s};
        ConnectionOptions shutdown{.ssl_shutdown_timeout = 1s};
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", 9, named)),
                  "ValueError: server_hostname is only meaningful with ssl");
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", 9, handshake)),
                  "ValueError: ssl_handshake_timeout is only meaningful with ssl");
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", 9, shutdown)),
                  "ValueError: ssl_shutdown_timeout is only meaningful with ssl");
        auto [a, b] = Socket::pair();
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, std::move(a), named)),
                  "ValueError: server_hostname is only meaningful with ssl");
        AcceptedSocketOptions accepted{.ssl_handshake_timeout = 1s};
        EXPECT_EQ(co_await thrown_by_await(loop.connect_accepted_socket(recorder, std::move(b), accepted)),
                  "ValueError: ssl_handshake_timeout is only meaningful with ssl");
        UnixConnectionOptions unix_options{.ssl_shutdown_timeout = 1s};
        EXPECT_EQ(co_await thrown_by_await(loop.create_unix_connection(recorder, "/nowhere", unix_options)),
                  "ValueError: ssl_shutdown_timeout is only meaningful with ssl");
    }());
}

TEST_P(Connections, on_a_closed_loop_are_errors) {
    auto closed = make_loop();
    closed->close();
    run([](EventLoop& loop) -> Coro<> {
        auto [a, b] = Socket::pair();
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", 9)),
                  "RuntimeError: Event loop is closed");
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, std::move(a))),
                  "RuntimeError: Event loop is closed");
        EXPECT_EQ(co_await thrown_by_await(loop.connect_accepted_socket(recorder, std::move(b))),
                  "RuntimeError: Event loop is closed");
        EXPECT_EQ(co_await thrown_by_await(loop.create_unix_connection(recorder, "/nowhere")),
                  "RuntimeError: Event loop is closed");
    }(*closed));
}

TEST_P(Connections, a_factory_that_throws_closes_the_socket) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto fail = []() -> std::shared_ptr<Recorder> { throw ValueError("no protocol"); };
        auto [a, b] = Socket::pair();
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(fail, std::move(a))),
                  "ValueError: no protocol");
        EXPECT_EQ(co_await loop.sock_recv(b, 10), "");
        auto nothing = [] { return std::shared_ptr<Recorder>(); };
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(nothing, std::move(b))),
                  "ValueError: a transport needs a protocol");
    }());
}

TEST_P(Connections, the_texts_of_options_may_be_temporaries) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listen_on(AF_INET, "127.0.0.1");
        int port = server.getsockname().port;
        auto connecting = [&] {
            std::string name;
            name.reserve(100);  // on the heap; gone when the call is awaited
            name = "127.0.0.2";
            std::string target = "127.0.0.1";
            ConnectionOptions options{.local_addr = {name, 0}};
            auto coro = loop.create_connection(recorder, target, port, options);
            name.assign(9, 'x');
            target.assign(9, 'x');
            options.local_addr = {};
            return coro;
        }();
        auto [transport, protocol] = co_await std::move(connecting);
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("sockname")).host, "127.0.0.2");
        transport->close();
    }());
}

TEST_P(Connections, from_a_local_address) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listen_on(AF_INET, "127.0.0.1");
        int port = server.getsockname().port;
        ConnectionOptions options{.local_addr = {"127.0.0.3", 0}};
        auto [transport, protocol] = co_await loop.create_connection(recorder, "127.0.0.1", port, options);
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("sockname")).host, "127.0.0.3");
        transport->close();

        ConnectionOptions taken{.local_addr = {"127.0.0.1", port}};
        std::string error =
            co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", port, taken));
        EXPECT_EQ(error, "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', " +
                             std::to_string(port) + "): Address already in use");
        ConnectionOptions not_ours{.local_addr = {"192.0.2.1", 0}};
        error = co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", port, not_ours));
        EXPECT_EQ(error,
                  "OSError: [Errno 99] error while attempting to bind on address ('192.0.2.1', 0): "
                  "Cannot assign requested address");
        ConnectionOptions other_family{.local_addr = {"::1", 0}};
        error = co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", port, other_family));
        EXPECT_EQ(error, "OSError: no matching local address with family=2 found");
        ConnectionOptions bad_port{.local_addr = {"127.0.0.1", 70'000}};
        error = co_await thrown_by_await(loop.create_connection(recorder, "127.0.0.1", port, bad_port));
        EXPECT_EQ(error, "ValueError: a port is 0 to 65535, not 70000");
    }());
}

TEST_P(Connections, refused_by_all_addresses) {
    // An empty host is this machine: ::1 and 127.0.0.1.
    run([](int port) -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions stream{.type = SOCK_STREAM};
        auto found = co_await loop.getaddrinfo("", port, stream);
        if (found.size() < 2) co_return;  // no IPv6 here
        std::string first = "[Errno 111] Connect call failed " + to_string(found[0].address);
        std::string second = "[Errno 111] Connect call failed " + to_string(found[1].address);
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "", port)),
                  "OSError: Multiple exceptions: " + first + ", " + second);
        for (std::optional<Duration> delay : {std::optional<Duration>(), std::optional<Duration>(10s)}) {
            ConnectionOptions all{.happy_eyeballs_delay = delay, .all_errors = true};
            auto outcome = co_await try_await(loop.create_connection(recorder, "", port, all));
            bool is_group = false;
            try {
                outcome.value();
            } catch (const ExceptionGroup& group) {
                is_group = true;
                EXPECT_EQ(group.message(), "create_connection failed");
                EXPECT_EQ(group.exceptions().size(), 2u);
                for (const auto& error : group.exceptions())
                    EXPECT_TRUE(error_text(error).starts_with("ConnectionRefusedError: "))
                        << error_text(error);
            }
            EXPECT_TRUE(is_group) << error_text(outcome.exception());
        }
        // One error is thrown as it is, and in a group of one.
        ConnectionOptions v4{.family = AF_INET};
        EXPECT_EQ(co_await thrown_by_await(loop.create_connection(recorder, "", port, v4)),
                  "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', " +
                      std::to_string(port) + ")");
        ConnectionOptions v4_group{.family = AF_INET, .all_errors = true};
        auto outcome = co_await try_await(loop.create_connection(recorder, "", port, v4_group));
        EXPECT_THROW(outcome.value(), ExceptionGroup);
    }(dead_port()));
}

TEST_P(Connections, the_next_address_is_tried_when_one_fails) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions stream{.type = SOCK_STREAM};
        auto found = co_await loop.getaddrinfo("", 9, stream);
        if (found.size() < 2) co_return;  // no IPv6 here
        // Only the second address is served, or only the first, in turn, by each of the ways.
        for (std::size_t served : {0u, 1u}) {
            Socket server = listen_on(found[served].family, found[served].address.host);
            int port = server.getsockname().port;
            std::vector<ConnectionOptions> ways(5);
            ways[1].happy_eyeballs_delay = 10s;
            ways[2].happy_eyeballs_delay = 0s;
            ways[3].interleave = 1;
            ways[4].happy_eyeballs_delay = 10s;
            ways[4].interleave = 2;
            for (const ConnectionOptions& way : ways) {
                auto started = loop.time();
                auto [transport, protocol] = co_await loop.create_connection(recorder, "", port, way);
                EXPECT_LT(loop.time() - started, 5s) << "waited for a delay that an error ends";
                EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("peername")).host,
                          found[served].address.host);
                transport->abort();
            }
        }
    }());
}

TEST_P(Connections, the_next_address_is_tried_after_the_delay) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions stream{.type = SOCK_STREAM};
        auto found = co_await loop.getaddrinfo("", 9, stream);
        if (found.size() < 2) co_return;  // no IPv6 here
        // The first address has a queue of connections that is full, and answers nobody.
        Socket deaf(found[0].family, SOCK_STREAM);
        if (found[0].family == AF_INET6) deaf.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1);
        deaf.bind({found[0].address.host});
        deaf.listen(0);
        SocketAddress at = deaf.getsockname();
        std::vector<Socket> fillers;
        std::vector<Task<>> filling;
        for (int i = 0; i < 3; ++i) {
            fillers.emplace_back(found[0].family, SOCK_STREAM);
            filling.push_back(create_task(loop.sock_connect(fillers.back(), at)));
        }
        co_await coil::sleep(10ms);
        EXPECT_FALSE(filling.back().done());
        Socket server = listen_on(found[1].family, found[1].address.host, at.port);
        ConnectionOptions options{.happy_eyeballs_delay = 5ms};
        auto [transport, protocol] = co_await loop.create_connection(recorder, "", at.port, options);
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("peername")).host,
                  found[1].address.host);
        transport->abort();

        // Cancelled while both, or one, are under way: whoever raced is gone when that is known.
        server.close();
        Socket deaf_too(found[1].family, SOCK_STREAM);
        deaf_too.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
        deaf_too.bind({found[1].address.host, at.port});
        co_await support::turns(3);
        std::size_t fds = support::open_fds();
        for (int round = 0; round < 40; ++round) {
            ConnectionOptions quick{.happy_eyeballs_delay = round % 2 ? Duration(1ms) : Duration(10s)};
            auto task = create_task(loop.create_connection(recorder, "", at.port, quick));
            co_await support::turns(round % 8);
            if (round % 3 == 0) co_await coil::sleep(2ms);
            task.cancel();
            auto outcome = co_await try_await(std::move(task));
            EXPECT_TRUE(outcome.cancelled()) << error_text(outcome.exception());
        }
        // Lookups that were cancelled may have a descriptor open yet.
        for (int i = 0; i < 500 && support::open_fds() > fds; ++i) co_await coil::sleep(1ms);
        EXPECT_EQ(support::open_fds(), fds);
        for (auto& task : filling) task.cancel();
        for (auto& task : filling) co_await try_await(task);
    }());
}

TEST_P(Connections, can_be_cancelled_at_every_turn) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listen_on(AF_INET, "127.0.0.1");
        int port = server.getsockname().port;
        int connected = 0;
        int cancelled = 0;
        for (int round = 0; round < 2000; ++round) {
            ConnectionOptions options;
            if (round % 2) options.happy_eyeballs_delay = 10s;
            std::shared_ptr<Recorder> made;
            auto make = [&] { return made = recorder(); };
            auto task = create_task(loop.create_connection(make, "127.0.0.1", port, options));
            co_await support::turns(round % 11);
            task.cancel();
            auto outcome = co_await try_await(std::move(task));
            if (outcome) {
                ++connected;
                outcome.value().transport->abort();
            } else {
                EXPECT_TRUE(outcome.cancelled());
                ++cancelled;
            }
            co_await support::turns(2);
            // A protocol that was told of its connection is told of the end.
            if (made && made->events.starts_with("made")) {
                EXPECT_EQ(made->events, "made lost(nothing)");
            }
            for (int fd = ::accept(server.fileno(), nullptr, nullptr); fd >= 0;
                 fd = ::accept(server.fileno(), nullptr, nullptr))
                ::close(fd);
        }
        EXPECT_GT(connected, 0);
        EXPECT_GT(cancelled, 0);
    }());
}

TEST_P(Connections, over_unix_sockets) {
    support::TemporaryDirectory directory;
    run([](std::string path) -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_EQ(co_await thrown_by_await(loop.create_unix_connection(recorder, path)),
                  "FileNotFoundError: [Errno 2] Connect call failed '" + path + "'");
        EXPECT_EQ(co_await thrown_by_await(loop.create_unix_connection(recorder, std::string(200, '/'))),
                  "ValueError: AF_UNIX path too long");
        Socket server(AF_UNIX, SOCK_STREAM);
        server.bind({path});
        server.listen(10);
        auto [transport, protocol] = co_await loop.create_unix_connection(recorder, path);
        EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("peername")).host, path);
        auto [connection, address] = co_await loop.sock_accept(server);
        transport->write("hello");
        EXPECT_EQ(co_await loop.sock_recv(connection, 100), "hello");
        connection.close();
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made eof lost(nothing)");
        for (int round = 0; round < 500; ++round) {
            auto task = create_task(loop.create_unix_connection(recorder, path));
            co_await support::turns(round % 6);
            task.cancel();
            auto outcome = co_await try_await(std::move(task));
            if (outcome) outcome.value().transport->close();
            for (int fd = ::accept(server.fileno(), nullptr, nullptr); fd >= 0;
                 fd = ::accept(server.fileno(), nullptr, nullptr))
                ::close(fd);
        }
        co_await support::turns(3);
    }(directory.path("socket")));
}

// ---- protocols

TEST_P(Connections, a_buffered_protocol_owns_the_memory) {
    run([]() -> Coro<> {
        struct Buffered final : BufferedProtocol {
            std::span<std::byte> get_buffer(std::size_t) override { return memory; }
            void buffer_updated(std::size_t size) override {
                EXPECT_GT(size, 0u);
                data.append(reinterpret_cast<const char*>(memory.data()), size);
            }
            bool eof_received() override {
                ended = true;
                return false;
            }
            void connection_lost(std::exception_ptr error) override {
                EXPECT_FALSE(error);
                lost.set();
            }
            std::array<std::byte, 7> memory{};
            std::string data;
            bool ended = false;
            Event lost;
        };
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto [transport, protocol] =
            co_await loop.create_connection([] { return std::make_shared<Buffered>(); }, std::move(a));
        std::string data;
        for (int i = 0; i < 5000; ++i) data += std::to_string(i);
        co_await loop.sock_sendall(b, data);
        b.close();
        co_await protocol->lost.wait();
        EXPECT_TRUE(protocol->data == data);
        EXPECT_TRUE(protocol->ended);
    }());
}

TEST_P(Connections, exceptions_in_callbacks_end_the_connection_and_are_reported) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        EventLoop& loop = get_running_loop();
        told.record(loop);
        auto fail = [](auto&&...) { throw ValueError("no"); };
        {
            auto [a, b] = Socket::pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            protocol->on_data = fail;
            co_await loop.sock_sendall(b, "x");
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(ValueError: no)");
            EXPECT_EQ(co_await loop.sock_recv(b, 10), "");
        }
        {
            auto [a, b] = Socket::pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            protocol->on_eof = fail;
            b.close();
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made eof lost(ValueError: no)");
        }
        {
            struct Failing final : BufferedProtocol {
                explicit Failing(int how) : mode(how) {}
                std::span<std::byte> get_buffer(std::size_t) override {
                    if (mode == 0) throw ValueError("no");
                    return mode == 1 ? std::span<std::byte>() : memory;
                }
                void buffer_updated(std::size_t) override { throw ValueError("no"); }
                void connection_lost(std::exception_ptr error) override {
                    reason = error_text(error);
                    lost.set();
                }
                int mode;
                std::array<std::byte, 10> memory{};
                std::string reason;
                Event lost;
            };
            for (int mode : {0, 1, 2}) {
                auto [a, b] = Socket::pair();
                auto make = [&] { return std::make_shared<Failing>(mode); };
                auto [transport, protocol] = co_await loop.create_connection(make, std::move(a));
                co_await loop.sock_sendall(b, "x");
                co_await protocol->lost.wait();
                EXPECT_EQ(protocol->reason, mode == 1 ? "RuntimeError: get_buffer() returned an empty buffer"
                                                      : "ValueError: no");
            }
        }
    }(reports));
    std::vector<std::string> expected{"Fatal error: protocol.data_received() call failed.: ValueError: no",
                                      "Fatal error: protocol.eof_received() call failed.: ValueError: no",
                                      "Fatal error: protocol.get_buffer() call failed.: ValueError: no",
                                      "Fatal error: protocol.get_buffer() call failed.: RuntimeError: "
                                      "get_buffer() returned an empty buffer",
                                      "Fatal error: protocol.buffer_updated() call failed.: ValueError: no"};
    EXPECT_EQ(reports.texts(), expected);
}

TEST_P(Connections, exceptions_in_the_other_callbacks_are_reported_and_the_connection_goes_on) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        EventLoop& loop = get_running_loop();
        told.record(loop);
        auto fail = [](auto&&...) { throw ValueError("no"); };
        auto protocol = recorder();
        protocol->on_made = fail;
        protocol->on_pause = fail;
        protocol->on_resume = fail;
        protocol->on_lost = fail;
        auto [a, b] = Socket::pair();
        auto connected = co_await loop.create_connection([&] { return protocol; }, std::move(a));
        EXPECT_EQ(told.size(), 1u);
        connected.transport->write(std::string(2'000'000, 'x'));
        EXPECT_EQ(told.size(), 2u);
        auto receiving = create_task(receive_all(b));
        connected.transport->close();
        co_await protocol->lost.wait();
        EXPECT_EQ((co_await receiving).size(), 2'000'000u);
        EXPECT_EQ(protocol->events, "made pause resume lost(nothing)");
        co_await support::turns(2);
    }(reports));
    ASSERT_EQ(reports.size(), 4u);
    EXPECT_EQ(reports.texts()[1], "protocol.pause_writing() failed: ValueError: no");
    EXPECT_EQ(reports.texts()[2], "protocol.resume_writing() failed: ValueError: no");
    EXPECT_EQ(reports[0].error, "ValueError: no");
    EXPECT_EQ(reports.texts()[3], "protocol.connection_lost() failed: ValueError: no");
}

TEST_P(Connections, close_and_abort_inside_every_callback) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (bool abort : {false, true}) {
            for (int where = 0; where < 5; ++where) {
                auto protocol = recorder();
                auto end = [abort, raw = protocol.get()] {
                    auto transport = raw->transport.lock();
                    abort ? transport->abort() : transport->close();
                };
                if (where == 0) protocol->on_made = [&](Transport&) { end(); };
                if (where == 1) protocol->on_data = [&](std::string_view) { end(); };
                if (where == 2) protocol->on_eof = end;
                if (where == 3) protocol->on_pause = end;
                if (where == 4) protocol->on_resume = end;
                auto [a, b] = Socket::pair();
                auto connected = co_await loop.create_connection([&] { return protocol; }, std::move(a));
                std::size_t written = 0;
                if (where >= 3) {
                    written = 2'000'000;
                    connected.transport->write(std::string(written, 'x'));
                } else if (where == 1) {
                    co_await loop.sock_sendall(b, "x");
                } else if (where == 2) {
                    b.shutdown(SHUT_WR);
                }
                std::string got = co_await receive_all(b);
                co_await protocol->lost.wait();
                const std::array<const char*, 5> expected{
                    "made lost(nothing)", "made lost(nothing)", "made eof lost(nothing)",
                    "made pause lost(nothing)", "made pause resume lost(nothing)"};
                if (where == 3 && !abort) {
                    EXPECT_EQ(protocol->events, "made pause resume lost(nothing)");
                } else {
                    EXPECT_EQ(protocol->events, expected[static_cast<std::size_t>(where)]) << where << abort;
                }
                if (!abort) {
                    EXPECT_EQ(got.size(), written) << where;
                } else {
                    EXPECT_LE(got.size(), written) << where;
                }
            }
        }
    }());
}

TEST_P(Connections, what_is_written_in_connection_made_arrives_though_it_is_closed_there) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (std::size_t size : {std::size_t{5}, std::size_t{3'000'000}}) {
            auto protocol = recorder();
            protocol->on_made = [size](Transport& transport) {
                transport.write(std::string(size, 'x'));
                transport.close();
                transport.close();
            };
            auto [a, b] = Socket::pair();
            auto receiving = create_task(receive_all(b));
            auto connected = co_await loop.create_connection([&] { return protocol; }, std::move(a));
            EXPECT_TRUE(connected.transport->is_closing());
            EXPECT_EQ((co_await receiving).size(), size);
            co_await protocol->lost.wait();
        }
    }());
}

TEST_P(Connections, a_new_protocol_takes_over) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto [transport, first] = co_await loop.create_connection(recorder, std::move(a));
        co_await loop.sock_sendall(b, "one");
        co_await first->arrived.wait();
        auto second = recorder();
        EXPECT_EQ(thrown_by([&] { transport->set_protocol(nullptr); }),
                  "ValueError: a transport needs a protocol");
        transport->set_protocol(second);
        EXPECT_EQ(transport->get_protocol(), second);
        co_await loop.sock_sendall(b, "two");
        b.close();
        co_await second->lost.wait();
        EXPECT_EQ(first->events, "made ");
        EXPECT_EQ(first->data, "one");
        EXPECT_EQ(second->events, "eof lost(nothing)");
        EXPECT_EQ(second->data, "two");
    }());
}

TEST_P(Connections, paused_reading_leaves_data_and_end_in_the_kernel) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto protocol = recorder();
        protocol->on_made = [](Transport& transport) { transport.pause_reading(); };
        auto [a, b] = Socket::pair();
        auto connected = co_await loop.create_connection([&] { return protocol; }, std::move(a));
        co_await loop.sock_sendall(b, "later");
        b.close();
        co_await coil::sleep(5ms);
        EXPECT_EQ(protocol->events, "made ");
        EXPECT_FALSE(connected.transport->is_reading());
        // Paused again in the middle of it: the end waits, too.
        protocol->on_data = [&](std::string_view) { connected.transport->pause_reading(); };
        connected.transport->resume_reading();
        co_await protocol->arrived.wait();
        co_await coil::sleep(5ms);
        EXPECT_EQ(protocol->data, "later");
        EXPECT_EQ(protocol->events, "made ");
        connected.transport->resume_reading();
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made eof lost(nothing)");
        EXPECT_FALSE(connected.transport->is_reading());
    }());
}

// ---- writing

TEST_P(Connections, the_marks_of_the_write_buffer) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
        using Limits = std::pair<std::size_t, std::size_t>;
        EXPECT_EQ(transport->get_write_buffer_limits(), Limits(16 * 1024, 64 * 1024));
        transport->set_write_buffer_limits(1000);
        EXPECT_EQ(transport->get_write_buffer_limits(), Limits(250, 1000));
        transport->set_write_buffer_limits(std::nullopt, 50);
        EXPECT_EQ(transport->get_write_buffer_limits(), Limits(50, 200));
        EXPECT_EQ(thrown_by([&] { transport->set_write_buffer_limits(10, 20); }),
                  "ValueError: high (10) must be >= low (20) must be >= 0");
        EXPECT_EQ(transport->get_write_buffer_limits(), Limits(50, 200));

        // Fill the kernel, to the byte; from then on it is the buffer that grows.
        const std::string block(64 * 1024, 'k');
        while (transport->get_write_buffer_size() == 0) transport->write(block);
        std::size_t over = transport->get_write_buffer_size();
        EXPECT_EQ(protocol->events, over > 200 ? "made pause " : "made ");
        transport->set_write_buffer_limits(over + 100, over / 2);
        transport->write(std::string(100, 'x'));
        transport->write("y");
        EXPECT_EQ(transport->get_write_buffer_size(), over + 101);
        EXPECT_EQ(protocol->events, "made pause ");
        auto receiving = create_task(receive_all(b));
        while (transport->get_write_buffer_size() > 0) co_await coil::sleep(0s);
        EXPECT_EQ(protocol->events, "made pause resume ");
        transport->set_write_buffer_limits(0);
        transport->write("z");
        EXPECT_EQ(protocol->events, "made pause resume ");
        transport->close();
        EXPECT_TRUE((co_await receiving).ends_with("xyz"));
    }());
}

TEST_P(Connections, pause_comes_strictly_above_the_high_mark) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
        transport->set_write_buffer_limits(10'000'000);
        const std::string block(64 * 1024, 'k');
        while (transport->get_write_buffer_size() == 0) transport->write(block);
        std::size_t size = transport->get_write_buffer_size();
        transport->set_write_buffer_limits(size + 10, size + 10);
        transport->write("0123456789");
        EXPECT_EQ(protocol->events, "made ");
        transport->write("!");
        EXPECT_EQ(protocol->events, "made pause ");
        transport->abort();
        EXPECT_EQ(transport->get_write_buffer_size(), 0u);
        EXPECT_EQ(protocol->events, "made pause ") << "abort called back";
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made pause lost(nothing)");
    }());
}

TEST_P(Connections, writelines_with_more_parts_than_one_call_takes) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (std::size_t part_size : {std::size_t{1}, std::size_t{100}, std::size_t{20'000}}) {
            auto [a, b] = Socket::pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            std::vector<std::string> parts;
            std::string all;
            for (int i = 0; i < 300; ++i) {
                parts.push_back(i % 7 == 3 ? "" : std::string(part_size, static_cast<char>('a' + i % 26)));
                all += parts.back();
            }
            std::vector<std::string_view> views(parts.begin(), parts.end());
            transport->writelines(views);
            transport->writelines(std::span<const std::string_view>());
            transport->write("");
            transport->write("end");
            transport->close();
            EXPECT_TRUE(co_await receive_all(b) == all + "end") << part_size;
        }
    }());
}

TEST_P(Connections, write_eof_flushes_and_the_other_way_stays_open) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (std::size_t size : {std::size_t{0}, std::size_t{10}, std::size_t{3'000'000}}) {
            auto [a, b] = Socket::pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            EXPECT_TRUE(transport->can_write_eof());
            transport->write(std::string(size, 'x'));
            transport->write_eof();
            transport->write_eof();
            EXPECT_EQ(thrown_by([&] { transport->write("more"); }),
                      "RuntimeError: Cannot call write() after write_eof()");
            EXPECT_EQ((co_await receive_all(b)).size(), size);
            EXPECT_FALSE(transport->is_closing());
            co_await loop.sock_sendall(b, "an answer");
            co_await protocol->arrived.wait();
            EXPECT_EQ(protocol->data, "an answer");
            b.close();
            co_await protocol->lost.wait();
        }
    }());
}

TEST_P(Connections, a_peer_that_ends_its_side_can_still_be_answered) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (bool keep_open : {true, false}) {
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            protocol->keep_open = keep_open;
            const std::string answer(2'000'000, 'x');
            if (!keep_open) transport->write(answer);  // what is buffered goes out in any case
            b.shutdown(SHUT_WR);
            co_await protocol->ended.wait();
            co_await support::turns(5);
            EXPECT_EQ(transport->is_closing(), !keep_open);
            if (keep_open) transport->write(answer);
            auto receiving = create_task(receive_all(b));
            transport->close();
            EXPECT_EQ((co_await receiving).size(), answer.size());
            co_await protocol->lost.wait();
            EXPECT_TRUE(protocol->events.ends_with("lost(nothing)")) << protocol->events;
        }
    }());
}

TEST_P(Connections, a_lost_connection_warns_once_who_writes_on) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        auto [a, b] = Socket::pair();
        auto [transport, protocol] = co_await get_running_loop().create_connection(recorder, std::move(a));
        transport->abort();
        transport->abort();
        for (int i = 0; i < 4; ++i) transport->write("x");
        co_await protocol->lost.wait();
    }());
    EXPECT_EQ(log.lines().size(), 0u) << log.str();
    run([]() -> Coro<> {
        auto [a, b] = Socket::pair();
        auto [transport, protocol] = co_await get_running_loop().create_connection(recorder, std::move(a));
        transport->abort();
        for (int i = 0; i < 300; ++i) transport->write("x");
        co_await protocol->lost.wait();
        for (int i = 0; i < 300; ++i) transport->write("x");
    }());
    EXPECT_EQ(log.count("write() on a socket transport that is lost"), 1u) << log.str();
}

// ---- peers that behave badly

TEST_P(Connections, a_peer_resets) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        EventLoop& loop = get_running_loop();
        told.record(loop);
        const std::string reset = "ConnectionResetError: [Errno 104] Connection reset by peer";
        {  // while nothing happens
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            close_hard(b);
            b.close();
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(" + reset + ")");
        }
        {  // while much is buffered
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            transport->write(std::string(20'000'000, 'x'));
            EXPECT_GT(transport->get_write_buffer_size(), 0u);
            close_hard(b);
            b.close();
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made pause lost(" + reset + ")");
            EXPECT_EQ(transport->get_write_buffer_size(), 0u);
        }
        {  // while it is written to, and nothing is read
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            transport->pause_reading();
            close_hard(b);
            b.close();
            transport->write("x");
            transport->write("x");
            for (int i = 0; i < 100 && !protocol->lost.is_set(); ++i) {
                co_await coil::sleep(1ms);
                transport->write("x");
            }
            EXPECT_TRUE(protocol->events == "made lost(" + reset + ")" ||
                        protocol->events == "made lost(BrokenPipeError: [Errno 32] Broken pipe)")
                << protocol->events;
        }
        {  // behind data that has not been read
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            transport->pause_reading();
            co_await loop.sock_sendall(b, "lost with the connection");
            close_hard(b);
            b.close();
            co_await coil::sleep(2ms);
            EXPECT_EQ(protocol->events, "made ");
            transport->resume_reading();
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(" + reset + ")");
        }
        {  // while it is closing, with something to flush
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            transport->write(std::string(20'000'000, 'x'));
            transport->close();
            close_hard(b);
            b.close();
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made pause lost(" + reset + ")");
        }
    }(reports));
    EXPECT_TRUE(reports.empty()) << reports[0].message;  // that a peer goes is no error of the program
}

TEST_P(Connections, a_kernel_without_memory_ends_the_connection) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = co_await tcp_pair();
        auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
        if (!support::forbid_call(SYS_sendto, ENOBUFS)) co_return false;
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendall(b, "x")),
                  "OSError: [Errno 105] No buffer space available");
        transport->write("x");
        EXPECT_TRUE(transport->is_closing());
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made lost(OSError: [Errno 105] No buffer space available)");
        co_return true;
    });
}

TEST_P(Connections, a_peer_sends_one_byte_at_a_time) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = co_await tcp_pair();
        b.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
        auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
        std::string sent;
        for (int i = 0; i < 2000; ++i) {
            sent.push_back(static_cast<char>('a' + i % 26));
            co_await loop.sock_sendall(b, std::string(1, sent.back()));
            if (i % 3 == 0) co_await coil::sleep(0s);
        }
        b.close();
        co_await protocol->lost.wait();
        EXPECT_TRUE(protocol->data == sent);
    }());
}

TEST_P(Connections, a_peer_that_never_reads_is_aborted) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = co_await tcp_pair();
        auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
        transport->write(std::string(20'000'000, 'x'));
        transport->close();
        co_await coil::sleep(5ms);
        EXPECT_EQ(protocol->events, "made pause ");
        EXPECT_TRUE(transport->is_closing());
        transport->abort();
        EXPECT_FALSE(protocol->lost.is_set()) << "abort called back at once";
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made pause lost(nothing)");
    }());
}

// ---- lifetimes

TEST_P(Connections, a_transport_that_nobody_holds_stays_open) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto protocol = recorder();
        co_await loop.create_connection([&] { return protocol; }, std::move(a));
        co_await coil::sleep(1ms);
        EXPECT_FALSE(protocol->transport.expired());
        co_await loop.sock_sendall(b, "heard");
        co_await protocol->arrived.wait();
        protocol->transport.lock()->write("answered");
        EXPECT_EQ(co_await loop.sock_recv(b, 100), "answered");
        b.close();
        co_await protocol->lost.wait();
        co_await support::turns(2);
        EXPECT_TRUE(protocol->transport.expired());
    }());
}

TEST_P(Connections, a_loop_that_is_closed_takes_its_transports_with_it) {
    support::LogRecorder log;
    std::shared_ptr<Transport> survivor;
    auto protocol = std::weak_ptr<Recorder>();
    std::size_t fds = support::open_fds();
    {
        auto [a, b] = Socket::pair();
        coil::run(
            [](Socket given, std::shared_ptr<Transport>& keep, std::weak_ptr<Recorder>& told) -> Coro<> {
                auto connected = co_await get_running_loop().create_connection(recorder, std::move(given));
                connected.transport->write(std::string(2'000'000, 'x'));
                keep = connected.transport;
                told = connected.protocol;
            }(std::move(a), survivor, protocol),
            {.loop_factory = factory()});
    }
    EXPECT_EQ(support::open_fds(), fds);
    EXPECT_EQ(log.count("unclosed transport"), 1u) << log.str();
    EXPECT_TRUE(protocol.expired());
    // Its handles do no harm.
    EXPECT_TRUE(survivor->is_closing());
    EXPECT_FALSE(survivor->is_reading());
    survivor->write("x");
    survivor->write_eof();
    survivor->pause_reading();
    survivor->resume_reading();
    survivor->close();
    survivor->abort();
    EXPECT_EQ(survivor->get_write_buffer_size(), 0u);
    EXPECT_EQ(std::any_cast<TransportSocket>(survivor->get_extra_info("socket")).fileno(), -1);
    EXPECT_TRUE(survivor->get_extra_info("sockname").has_value());
    EXPECT_TRUE(survivor->get_extra_info("peername").has_value());
    EXPECT_EQ(survivor->get_protocol(), nullptr);
}

TEST_P(Connections, a_file_that_is_being_sent_ends_with_its_connection) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        int file = ::memfd_create("file", MFD_CLOEXEC);
        EXPECT_EQ(::ftruncate(file, 20'000'000), 0);
        for (int how = 0; how < 4; ++how) {
            auto [a, b] = co_await tcp_pair();
            auto [transport, protocol] = co_await loop.create_connection(recorder, std::move(a));
            if (how % 2) transport->write(std::string(20'000'000, 'x'));  // it waits for what is before it
            auto sending = create_task(thrown_by_await(loop.sendfile(transport, file)));
            co_await coil::sleep(2ms);
            EXPECT_FALSE(sending.done());
            if (how < 2) {
                transport->abort();
            } else {
                close_hard(b);
                b.close();
            }
            std::string error = co_await wait_for(sending, 5s);
            EXPECT_TRUE(error.starts_with("ConnectionError: ") || error.starts_with("ConnectionResetError: "))
                << how << error;
            transport->abort();
            co_await protocol->lost.wait();
        }
        ::close(file);
    }());
}

TEST_P(Connections, a_text_with_a_NUL_inside_is_refused_wherever_it_would_be_cut_there) {
    using namespace std::literals;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string host = "127.0.0.1\0.example.org"s, name = "localhost\0.example.org"s;
        const std::string text = "ValueError: embedded null character",
                          path = "ValueError: embedded null byte";
        auto silent = [](StreamReader, StreamWriter) -> Coro<> { co_return; };
        auto datagrams = [] { return std::make_shared<DatagramProtocol>(); };
        EXPECT_EQ(co_await thrown_by_await(open_connection(host, 1)), text);
        EXPECT_EQ(co_await thrown_by_await(open_connection(name, 1)), text);
        EXPECT_EQ(co_await thrown_by_await(start_server(silent, host, 0)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo(name, 1)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("localhost", "http\0x"s)), text);
        Socket socket(AF_INET, SOCK_STREAM);
        SocketAddress address{host, 1};
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(socket, address)), text);
        DatagramOptions to_host;
        to_host.remote_addr = HostPort(host, 1);
        EXPECT_EQ(co_await thrown_by_await(loop.create_datagram_endpoint(datagrams, to_host)), text);
        EXPECT_EQ(co_await thrown_by_await(start_unix_server(silent, "nul.sock\0x"s)), path);
        EXPECT_EQ(co_await thrown_by_await(open_unix_connection("nul.sock\0x"s)), path);
        EXPECT_EQ(thrown_by([&] { loop.start_tracing("trace\0x"s); }), path);
        SslContext context(SslProtocol::TLS_CLIENT);
        EXPECT_EQ(thrown_by([&] { context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256\0x"s); }), text);
        EXPECT_EQ(thrown_by([&] { context.set_keylog_filename("nul.keys\0x"s); }), text);
        EXPECT_EQ(thrown_by([&] { context.load_cert_chain("server.pem\0x"s); }), text);
        EXPECT_EQ(thrown_by([&] { context.load_verify_locations({.cafile = "ca.pem\0x"sv}); }), text);
    }());
}

}  // namespace
