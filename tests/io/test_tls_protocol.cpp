#include "io/tls_protocol.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <any>
#include <array>
#include <cstdio>
#include <functional>
#include <thread>

#include "coil/coil.hpp"
#include "io/socket_transport.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/tls.hpp"

using namespace coil;
using namespace std::chrono_literals;
using detail::SocketTransport;
using detail::TlsProtocol;
using detail::TlsSettings;
using support::client_context;
using support::error_text;
using support::server_context;
using support::thrown_by;

namespace {

/// Writes down what it is told; what a test wants besides is done by its functions.
template <class Base>
class Recording : public Base {
  public:
    void connection_made(std::shared_ptr<Transport> its_transport) override {
        transport = std::move(its_transport);
        events.emplace_back("made");
        if (on_made) on_made();
    }
    bool eof_received() override {
        events.emplace_back("eof");
        if (on_eof) on_eof();
        return keep_open;
    }
    void connection_lost(std::exception_ptr error) override {
        events.push_back("lost " + error_text(error));
        lost = true;
    }
    void pause_writing() override { events.emplace_back("pause"); }
    void resume_writing() override { events.emplace_back("resume"); }

    std::shared_ptr<Transport> transport;
    std::vector<std::string> events;
    std::string data;
    std::function<void()> on_made, on_data, on_eof;
    bool keep_open = false;
    bool lost = false;
    support::Alive alive;
};

class Plain : public Recording<Protocol> {
  public:
    void data_received(std::string_view bytes) override {
        data += bytes;
        if (on_data) on_data();
    }
};

class Buffered : public Recording<BufferedProtocol> {
  public:
    std::span<std::byte> get_buffer(std::size_t) override { return buffer; }
    void buffer_updated(std::size_t size) override {
        data.append(reinterpret_cast<const char*>(buffer.data()), size);
        if (on_data) on_data();
    }
    std::vector<std::byte> buffer = std::vector<std::byte>(1000);
};

/// One end of a connection.
template <class App = Plain>
struct End {
    std::shared_ptr<App> app = std::make_shared<App>();
    std::weak_ptr<TlsProtocol> tls;
    std::weak_ptr<SocketTransport> raw;
    std::optional<std::string> ready;  // once on_ready was called: with what

    void start(Socket socket, TlsSettings settings, bool call_connection_made = true) {
        EventLoop& loop = get_running_loop();
        auto protocol = std::make_shared<TlsProtocol>(
            loop, app, std::move(settings), [this](std::exception_ptr error) { ready = error_text(error); },
            call_connection_made);
        auto transport = std::make_shared<SocketTransport>(loop, std::move(socket), protocol);
        transport->start();
        tls = protocol;
        raw = transport;
    }
    Transport& transport() { return *app->transport; }
};

Coro<> until(std::function<bool()> reached) {
    for (int i = 0; i < 5000 && !reached(); ++i) co_await coil::sleep(1ms);
    EXPECT_TRUE(reached()) << "it never came";
}

TlsSettings client_settings(SslContext context = client_context()) {
    return {.context = std::move(context), .server_hostname = "localhost"};
}
TlsSettings server_settings(SslContext context = server_context()) {
    return {.context = std::move(context), .server_side = true};
}

class TlsProtocols : public support::OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro, bool debug = false) {
        return coil::run(std::move(coro), {.debug = debug, .loop_factory = factory()});
    }
    void TearDown() override {
        OnBackend::TearDown();
        EXPECT_EQ(support::Alive::count(), 0);
    }
};
ON_EVERY_BACKEND(TlsProtocols);

/// Both ends, connected through a pair of sockets.
template <class ClientApp = Plain, class ServerApp = Plain>
struct Link {
    End<ClientApp> client;
    End<ServerApp> server;

    void start(TlsSettings client_side = client_settings(), TlsSettings server_side = server_settings()) {
        auto [one, other] = Socket::pair();
        client.start(std::move(one), std::move(client_side));
        server.start(std::move(other), std::move(server_side));
    }
    Coro<> connected() {
        co_await until([this] { return client.ready && server.ready; });
        EXPECT_EQ(*client.ready, "nothing");
        EXPECT_EQ(*server.ready, "nothing");
    }
    Coro<> closed() {
        co_await until([this] { return client.app->lost && server.app->lost; });
        client.app->transport = nullptr;
        server.app->transport = nullptr;
        co_await coil::sleep(0s);
        co_await coil::sleep(0s);
        EXPECT_TRUE(client.raw.expired() && server.raw.expired());
        EXPECT_TRUE(client.tls.expired() && server.tls.expired());
    }
};

using Events = std::vector<std::string>;
constexpr const char* TRUNCATED =
    "lost SslEofError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol";

TEST_P(TlsProtocols, data_go_both_ways_and_close_ends_both_sides) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        link.client.transport().write("hello ");
        std::vector<std::string_view> parts{"from ", "", "the client"};
        link.client.transport().writelines(parts);
        link.server.transport().write("hello from the server");
        co_await until(
            [&] { return link.server.app->data.size() == 21 && link.client.app->data.size() == 21; });
        EXPECT_EQ(link.server.app->data, "hello from the client");
        EXPECT_EQ(link.client.app->data, "hello from the server");
        EXPECT_FALSE(link.client.transport().is_closing());
        link.client.transport().close();
        link.client.transport().close();
        EXPECT_TRUE(link.client.transport().is_closing());
        EXPECT_EQ(link.client.app->events.size(), 1u);  // nothing is called inside close()
        auto kept = link.client.app->transport;
        co_await link.closed();
        EXPECT_EQ(link.client.app->events, (Events{"made", "lost nothing"}));
        EXPECT_EQ(link.server.app->events, (Events{"made", "eof", "lost nothing"}));
        // The transport answers on.
        EXPECT_TRUE(kept->is_closing());
        EXPECT_EQ(kept->get_write_buffer_size(), 0u);
        EXPECT_FALSE(kept->is_reading());
        EXPECT_EQ(kept->get_protocol(), nullptr);
        EXPECT_TRUE(kept->get_extra_info("ssl_object").has_value());
        EXPECT_FALSE(kept->get_extra_info("peername").has_value());
        kept->write("into the void");
        kept->abort();
        kept->close();
        kept->resume_reading();
    }());
}

TEST_P(TlsProtocols, the_transport_tells_what_was_agreed_on) {
    run([]() -> Coro<> {
        Link<> link;
        SslContext context = client_context();
        link.start(client_settings(context));
        auto early = link.client.tls.lock()->app_transport();
        EXPECT_EQ(std::any_cast<SslContext>(early->get_extra_info("sslcontext")), context);
        EXPECT_FALSE(early->get_extra_info("ssl_object").has_value());
        EXPECT_FALSE(early->get_extra_info("cipher").has_value());
        co_await link.connected();
        Transport& transport = link.client.transport();
        EXPECT_EQ(&transport, early.get());
        EXPECT_EQ(std::any_cast<SslObject>(transport.get_extra_info("ssl_object")).version(), "TLSv1.3");
        EXPECT_EQ(std::any_cast<SslCipher>(transport.get_extra_info("cipher")).protocol, "TLSv1.3");
        EXPECT_EQ(std::any_cast<SslCertificate>(transport.get_extra_info("peercert")).version(), 3);
        EXPECT_FALSE(link.server.transport().get_extra_info("peercert").has_value());
        EXPECT_FALSE(transport.get_extra_info("compression").has_value());
        EXPECT_TRUE(transport.get_extra_info("socket").has_value());
        EXPECT_FALSE(transport.can_write_eof());
        EXPECT_EQ(thrown_by([&] { transport.write_eof(); }),
                  "RuntimeError: a TLS connection has no write_eof(): use close()");
        EXPECT_EQ(transport.get_protocol(), link.client.app);
        link.client.transport().abort();
        co_await link.closed();
    }());
}

template <class ClientApp, class ServerApp>
Coro<> bulk() {
    Link<ClientApp, ServerApp> link;
    link.start();
    co_await link.connected();
    std::string data(10 << 20, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 11);
    link.client.transport().write(data);
    link.server.transport().write(data);
    EXPECT_GT(link.client.transport().get_write_buffer_size(), 1u << 20);
    co_await until(
        [&] { return link.client.app->data.size() + link.server.app->data.size() == 2 * data.size(); });
    EXPECT_TRUE(link.client.app->data == data);
    EXPECT_TRUE(link.server.app->data == data);
    EXPECT_EQ(link.client.transport().get_write_buffer_size(), 0u);
    EXPECT_EQ(link.client.app->events, (Events{"made", "pause", "resume"}));
    EXPECT_EQ(link.server.app->events, (Events{"made", "pause", "resume"}));
    link.server.transport().close();
    co_await link.closed();
}

TEST_P(TlsProtocols, ten_megabytes_both_ways) {
    run(bulk<Plain, Plain>());
    run(bulk<Buffered, Plain>());
}

TEST_P(TlsProtocols, close_sends_what_was_written) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        std::string data(3 << 20, 'x');
        link.client.transport().write(data);
        link.client.transport().close();
        link.client.transport().write("too late");
        co_await link.closed();
        EXPECT_EQ(link.server.app->data.size(), data.size());
        EXPECT_EQ(link.client.app->events.back(), "lost nothing");
        EXPECT_EQ(link.server.app->events, (Events{"made", "eof", "lost nothing"}));
    }());
}

TEST_P(TlsProtocols, what_comes_after_close_is_dropped) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        link.server.transport().write(std::string(3 << 20, 'x'));
        link.client.app->on_data = [&] {
            link.client.transport().close();
            link.client.app->on_data = nullptr;
        };
        co_await until([&] { return !link.client.app->data.empty(); });
        std::size_t got = link.client.app->data.size();
        co_await link.closed();
        EXPECT_EQ(link.client.app->data.size(), got);
        EXPECT_EQ(link.client.app->events, (Events{"made", "lost nothing"}));
        EXPECT_EQ(link.server.app->events.back(), "lost nothing");
    }());
}

TEST_P(TlsProtocols, abort_is_no_clean_end) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        link.server.transport().write(
            "x");  // behind the tickets: bytes that nobody has read would make it a reset
        co_await until([&] { return link.client.app->data == "x"; });
        link.client.transport().abort();
        EXPECT_TRUE(link.client.transport().is_closing());
        EXPECT_EQ(link.client.app->events, (Events{"made"}));
        co_await link.closed();
        EXPECT_EQ(link.client.app->events, (Events{"made", "lost nothing"}));
        EXPECT_EQ(link.server.app->events, (Events{"made", TRUNCATED}));
    }());
}

/// A peer without TLS of its own: what an engine does is carried over by hand.
struct RawPeer {
    explicit RawPeer(Socket its_socket) : socket(std::move(its_socket)), engine(server_context(), true) {}

    Coro<> handshake() {
        for (;;) {
            auto status = engine.do_handshake();
            send();
            if (status == detail::TlsEngine::Status::DONE) co_return;
            co_await receive();
        }
    }
    void send(std::size_t most = std::string::npos) {
        auto output = engine.output().substr(0, most);
        EXPECT_EQ(::send(socket.fileno(), output.data(), output.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(output.size()));
        engine.drop_output(engine.output().size());
    }
    Coro<> receive() {
        std::string data = co_await get_running_loop().sock_recv(socket, 65536);
        engine.feed(data);
    }
    Socket socket;
    detail::TlsEngine engine;
};

struct RawLink {
    RawLink() : RawLink(Socket::pair()) {}
    explicit RawLink(std::pair<Socket, Socket> sockets) : peer(std::move(sockets.second)) {
        client.start(std::move(sockets.first), client_settings());
    }
    Coro<> connected() {
        co_await peer.handshake();
        co_await until([this] { return client.ready.has_value(); });
    }
    Coro<> closed() {
        co_await until([this] { return client.app->lost; });
        client.app->transport = nullptr;
    }
    End<> client;
    RawPeer peer;
};

TEST_P(TlsProtocols, a_truncated_stream_gives_its_data_and_then_an_error) {
    run([]() -> Coro<> {
        for (bool half : {false, true}) {
            RawLink link;
            co_await link.connected();
            link.peer.engine.write("all of this");
            link.peer.send();
            if (half) {
                link.peer.engine.write("but not of this");
                link.peer.send(20);
            }
            link.peer.socket.close();
            co_await link.closed();
            EXPECT_EQ(link.client.app->data, "all of this");
            EXPECT_EQ(link.client.app->events, (Events{"made", TRUNCATED}));
        }
    }());
}

TEST_P(TlsProtocols, a_truncated_stream_that_nobody_reads_yet_is_told_later) {
    run([]() -> Coro<> {
        for (bool notify : {false, true}) {
            RawLink link;
            co_await link.connected();
            link.client.transport().pause_reading();
            link.peer.engine.write("for later");
            if (notify) link.peer.engine.shutdown();
            link.peer.send();
            link.peer.socket.close();
            co_await coil::sleep(20ms);
            EXPECT_EQ(link.client.app->events, (Events{"made"}));
            EXPECT_EQ(link.client.app->data, "");
            EXPECT_FALSE(link.client.transport().is_closing());
            link.client.transport().resume_reading();
            co_await link.closed();
            EXPECT_EQ(link.client.app->data, "for later");
            EXPECT_EQ(link.client.app->events,
                      notify ? (Events{"made", "eof", "lost nothing"}) : (Events{"made", TRUNCATED}));
        }
    }());
}

TEST_P(TlsProtocols, a_stream_that_is_cut_off_gives_its_data_before_the_error) {
    run([]() -> Coro<> {
        constexpr const char* CUT_OFF =
            "SslEofError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol";
        for (int way = 0; way < 5; ++way) {
            auto [one, other] = Socket::pair();
            RawPeer peer(std::move(other));
            StreamReader reader;
            auto protocol = std::make_shared<StreamReaderProtocol>(reader);
            auto tls = std::make_shared<TlsProtocol>(get_running_loop(), protocol, client_settings(),
                                                     [](std::exception_ptr) {});
            auto raw = std::make_shared<SocketTransport>(get_running_loop(), std::move(one), tls);
            raw->start();
            co_await peer.handshake();
            peer.engine.write("line\nhalf a line");
            peer.send();
            peer.socket.close();
            co_await coil::sleep(10ms);
            EXPECT_EQ(co_await reader.readline(), "line\n");
            EXPECT_FALSE(reader.at_eof());
            EXPECT_EQ(error_text(reader.exception()), CUT_OFF);
            if (way == 0) {
                EXPECT_EQ(co_await reader.read(100), "half a line");
                EXPECT_EQ(co_await support::thrown_by_await(reader.read(100)), CUT_OFF);
                EXPECT_FALSE(reader.at_eof());
            } else if (way == 1) {
                EXPECT_EQ(co_await support::thrown_by_await(reader.readline()), CUT_OFF);
                EXPECT_EQ(co_await reader.read(100), "half a line");
            } else if (way == 2) {
                EXPECT_EQ(co_await reader.readexactly(4), "half");
                EXPECT_EQ(co_await support::thrown_by_await(reader.readexactly(100)), CUT_OFF);
            } else if (way == 3) {
                EXPECT_EQ(co_await support::thrown_by_await(reader.read()), CUT_OFF);
            } else {
                std::array<std::byte, 100> space;
                EXPECT_EQ(co_await reader.read_into(space), 11u);
                EXPECT_EQ(co_await support::thrown_by_await(reader.read_into(space)), CUT_OFF);
            }
        }
    }());
}

TEST_P(TlsProtocols, closing_a_paused_transport_whose_peer_is_gone_is_clean) {
    run([]() -> Coro<> {
        RawLink link;
        co_await link.connected();
        link.client.transport().pause_reading();
        link.peer.engine.write("unread");
        link.peer.send();
        ::shutdown(link.peer.socket.fileno(), SHUT_WR);
        co_await coil::sleep(20ms);
        link.client.transport().write("a last word");
        link.client.transport().close();
        co_await link.closed();
        EXPECT_EQ(link.client.app->data, "");
        EXPECT_EQ(link.client.app->events, (Events{"made", "lost nothing"}));
    }());
}

TEST_P(TlsProtocols, a_peer_may_close_without_waiting_for_our_close_notify) {
    run([]() -> Coro<> {
        RawLink link;
        co_await link.connected();
        link.client.transport().close();
        co_await link.peer.receive();
        link.peer.socket.close();
        co_await link.closed();
        EXPECT_EQ(link.client.app->events, (Events{"made", "lost nothing"}));
    }());
}

TEST_P(TlsProtocols, a_peer_that_does_not_answer_to_close_is_left) {
    run([]() -> Coro<> {
        auto [one, other] = Socket::pair();
        RawPeer peer(std::move(other));
        End<> client;
        TlsSettings settings = client_settings();
        settings.shutdown_timeout = 30ms;
        client.start(std::move(one), std::move(settings));
        co_await peer.handshake();
        co_await until([&] { return client.ready.has_value(); });
        client.transport().close();
        co_await until([&] { return client.app->lost; });
        EXPECT_EQ(client.app->events, (Events{"made", "lost TimeoutError: SSL shutdown timed out"}));
        client.app->transport = nullptr;
    }());
}

TEST_P(TlsProtocols, garbage_is_a_fatal_error) {
    run([]() -> Coro<> {
        RawLink link;
        co_await link.connected();
        static_cast<void>(::send(link.peer.socket.fileno(), "this is no TLS record", 21, 0));
        co_await link.closed();
        EXPECT_EQ(link.client.app->events,
                  (Events{"made", "lost " + support::ssl_error(support::REASON_OF_GARBAGE)}));
    }());
}

TEST_P(TlsProtocols, a_handshake_that_fails_tells_both_why) {
    support::LogRecorder log;
    run(
        []() -> Coro<> {
            support::Reports reports(get_running_loop());
            Link<> link;
            TlsSettings wrong = client_settings();
            wrong.server_hostname = "wrong.test";
            link.start(std::move(wrong));
            co_await until([&] { return link.client.ready && link.server.ready; });
            EXPECT_EQ(*link.client.ready,
                      "SslCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
                      "Hostname mismatch, certificate is not valid for 'wrong.test'.");
            EXPECT_EQ(*link.server.ready, support::ssl_error(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE));
            co_await coil::sleep(5ms);
            EXPECT_EQ(link.client.app->events, Events{});
            EXPECT_EQ(link.server.app->events, Events{});
            EXPECT_TRUE(reports.empty());
            get_running_loop().set_exception_handler({});
        }(),
        true);
    EXPECT_EQ(log.count("SSL handshake failed on verifying the certificate"), 1u);
    EXPECT_EQ(log.count("SSL handshake failed: " + support::ssl_error(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE)
                                                       .substr(std::string("SslError: ").size())),
              1u);
}

TEST_P(TlsProtocols, an_error_in_a_servername_callback_is_reported) {
    run([]() -> Coro<> {
        support::Reports reports(get_running_loop());
        SslContext context = server_context();
        context.set_servername_callback(
            [](SslObject&, const std::string&, const SslContext&) -> std::optional<int> {
                throw RuntimeError("no such name");
            });
        Link<> link;
        link.start(client_settings(), server_settings(context));
        co_await until([&] { return link.client.ready && link.server.ready; });
        EXPECT_EQ(*link.server.ready, "RuntimeError: no such name");
        EXPECT_EQ(reports.texts(), (Events{"SSL handshake failed: RuntimeError: no such name"}));
        get_running_loop().set_exception_handler({});
    }());
}

TEST_P(TlsProtocols, a_handshake_has_a_time_limit) {
    run([]() -> Coro<> {
        auto [one, silent] = Socket::pair();
        End<> client;
        TlsSettings settings = client_settings();
        settings.handshake_timeout = 20ms;
        client.start(std::move(one), std::move(settings));
        co_await until([&] { return client.ready.has_value(); });
        EXPECT_EQ(*client.ready,
                  "ConnectionAbortedError: SSL handshake is taking longer than 0.02 seconds: aborting the "
                  "connection");
        EXPECT_EQ(client.app->events, Events{});
    }());
}

TEST_P(TlsProtocols, an_end_during_the_handshake_is_an_error) {
    run([]() -> Coro<> {
        auto [one, other] = Socket::pair();
        End<> client;
        client.start(std::move(one), client_settings());
        ::shutdown(other.fileno(), SHUT_WR);
        co_await until([&] { return client.ready.has_value(); });
        EXPECT_EQ(*client.ready,
                  "ConnectionResetError: [Errno 104] the connection was closed during the SSL handshake");

        auto [two, peer] = Socket::pair();
        End<> aborted;
        aborted.start(std::move(two), client_settings());
        auto transport = aborted.tls.lock()->app_transport();
        co_await coil::sleep(5ms);
        transport->close();
        co_await until([&] { return aborted.ready.has_value(); });
        EXPECT_EQ(aborted.ready->substr(0, 22), "ConnectionAbortedError") << *aborted.ready;
        EXPECT_EQ(aborted.app->events, Events{});
    }());
}

TEST_P(TlsProtocols, a_transport_that_was_closed_before_it_began_never_connects) {
    run([]() -> Coro<> {
        auto [one, peer] = Socket::pair();
        End<> client;
        client.start(std::move(one), client_settings());
        client.tls.lock()->app_transport()->close();
        co_await until([&] { return client.ready.has_value(); });
        EXPECT_EQ(client.ready->substr(0, 22), "ConnectionAbortedError");
    }());
}

TEST_P(TlsProtocols, a_slow_reader_stops_the_writer) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        Transport& reading = link.server.transport();
        EXPECT_TRUE(reading.is_reading());
        reading.pause_reading();
        reading.pause_reading();
        EXPECT_FALSE(reading.is_reading());
        Transport& writing = link.client.transport();
        std::size_t written = 0;
        std::string piece(64 * 1024, 'x');
        while (link.client.app->events.back() != "pause") {
            writing.write(piece);
            written += piece.size();
            co_await coil::sleep(1ms);
            if (written > 50u << 20) break;
        }
        EXPECT_EQ(link.client.app->events, (Events{"made", "pause"}));
        EXPECT_GT(writing.get_write_buffer_size(), 512u * 1024);
        EXPECT_EQ(link.server.app->data, "");
        reading.resume_reading();
        co_await until([&] { return link.server.app->data.size() == written; });
        EXPECT_EQ(link.client.app->events, (Events{"made", "pause", "resume"}));
        writing.close();
        co_await link.closed();
    }());
}

TEST_P(TlsProtocols, write_buffer_limits_are_the_transports_own) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        Transport& transport = link.client.transport();
        using Limits = std::pair<std::size_t, std::size_t>;
        EXPECT_EQ(transport.get_write_buffer_limits(), Limits(128 * 1024, 512 * 1024));
        transport.set_write_buffer_limits(1000);
        EXPECT_EQ(transport.get_write_buffer_limits(), Limits(250, 1000));
        transport.set_write_buffer_limits({}, 100);
        EXPECT_EQ(transport.get_write_buffer_limits(), Limits(100, 400));
        EXPECT_EQ(thrown_by([&] { transport.set_write_buffer_limits(1, 2); }),
                  "ValueError: high (1) must be >= low (2) must be >= 0");
        link.server.transport().pause_reading();
        transport.write(std::string(4 << 20, 'x'));
        EXPECT_EQ(link.client.app->events.back(), "pause");
        transport.set_write_buffer_limits(16 << 20);
        EXPECT_EQ(link.client.app->events.back(), "resume");
        transport.abort();
        link.server.transport().abort();
        co_await link.closed();
    }());
}

TEST_P(TlsProtocols, pausing_in_the_middle_of_data_holds_the_rest_back) {
    run([]() -> Coro<> {
        Link<Plain, Buffered> link;
        link.start();
        co_await link.connected();
        link.server.app->on_data = [&] { link.server.transport().pause_reading(); };
        link.client.transport().write(std::string(5500, 'x'));
        link.client.transport().close();
        for (std::size_t expected : {1000u, 2000u, 3000u, 4000u, 5000u, 5500u}) {
            co_await until([&] { return link.server.app->data.size() >= expected; });
            co_await coil::sleep(3ms);
            EXPECT_EQ(link.server.app->data.size(), expected);
            EXPECT_EQ(link.server.app->events, (Events{"made"}));
            link.server.transport().resume_reading();
        }
        co_await link.closed();
        EXPECT_EQ(link.server.app->events, (Events{"made", "eof", "lost nothing"}));
    }());
}

TEST_P(TlsProtocols, eof_received_cannot_keep_it_open) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        link.server.app->keep_open = true;
        link.server.app->on_eof = [&] { link.server.transport().write("goodbye"); };
        co_await link.connected();
        link.client.transport().close();
        co_await link.closed();
        EXPECT_EQ(link.server.app->events, (Events{"made", "eof", "lost nothing"}));
    }());
    EXPECT_EQ(log.count("returning true from eof_received() has no effect when using ssl"), 1u);
}

TEST_P(TlsProtocols, what_a_protocol_throws_is_fatal) {
    run([]() -> Coro<> {
        support::Reports reports(get_running_loop());
        auto fail = [] { throw RuntimeError("oops"); };
        {
            Link<> link;
            link.server.app->on_made = fail;
            link.start();
            co_await until([&] { return link.client.app->lost && link.server.app->lost; });
            EXPECT_EQ(*link.server.ready, "RuntimeError: oops");
            EXPECT_EQ(link.server.app->events, (Events{"made", "lost RuntimeError: oops"}));
            co_await link.closed();
        }
        for (auto hook : {&Plain::on_data, &Plain::on_eof}) {
            Link<> link;
            link.start();
            co_await link.connected();
            link.server.app.get()->*hook = fail;
            link.client.transport().write("data");
            link.client.transport().close();
            co_await link.closed();
            EXPECT_EQ(link.server.app->events.back(), "lost RuntimeError: oops");
        }
        EXPECT_EQ(reports.texts(),
                  (Events{"Fatal error: protocol.connection_made() call failed.: RuntimeError: oops",
                          "Fatal error on SSL protocol: RuntimeError: oops",
                          "Error calling eof_received(): RuntimeError: oops"}));
        get_running_loop().set_exception_handler({});
    }());
}

TEST_P(TlsProtocols, an_empty_buffer_is_fatal) {
    run([]() -> Coro<> {
        support::Reports reports(get_running_loop());
        Link<Plain, Buffered> link;
        link.server.app->buffer.clear();
        link.start();
        co_await until([&] { return link.client.app->lost && link.server.app->lost; });
        EXPECT_EQ(link.server.app->events.back(), "lost RuntimeError: get_buffer() returned an empty buffer");
        EXPECT_EQ(reports.size(), 1u);
        get_running_loop().set_exception_handler({});
        co_await link.closed();
    }());
}

TEST_P(TlsProtocols, settings_are_checked) {
    run([]() -> Coro<> {
        auto made_of = [](TlsSettings settings) {
            return thrown_by([&] {
                TlsProtocol(get_running_loop(), std::make_shared<Plain>(), std::move(settings), [](auto) {});
            });
        };
        TlsSettings settings = client_settings();
        settings.handshake_timeout = 0s;
        EXPECT_EQ(made_of(settings),
                  "ValueError: ssl_handshake_timeout should be a positive number, got 0.0");
        settings = client_settings();
        settings.shutdown_timeout = -1500ms;
        EXPECT_EQ(made_of(settings),
                  "ValueError: ssl_shutdown_timeout should be a positive number, got -1.5");
        settings = client_settings();
        settings.server_hostname = "";
        EXPECT_EQ(made_of(settings), "ValueError: check_hostname requires server_hostname");
        settings = server_settings();
        settings.server_hostname = "ignored";
        EXPECT_EQ(made_of(settings), "nothing");
        co_return;
    }());
}

TEST_P(TlsProtocols, the_protocol_can_be_changed) {
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        auto next = std::make_shared<Plain>();
        link.server.app->on_data = [&] { link.server.transport().set_protocol(next); };
        link.client.transport().write("one");
        co_await until([&] { return link.server.app->data == "one"; });
        EXPECT_EQ(link.server.transport().get_protocol(), next);
        link.client.transport().write("two");
        link.client.transport().close();
        co_await until([&] { return next->lost; });
        EXPECT_EQ(next->data, "two");
        EXPECT_EQ(next->events, (Events{"eof", "lost nothing"}));
        EXPECT_EQ(link.server.app->data, "one");
        co_await until([&] { return link.client.app->lost; });
        link.client.app->transport = nullptr;
        link.server.app->transport = nullptr;
    }());
}

TEST_P(TlsProtocols, start_tls_takes_a_protocol_that_is_connected) {
    run([]() -> Coro<> {
        auto [one, other] = Socket::pair();
        End<> client, server;
        client.start(std::move(one), client_settings(), false);
        client.app->transport = client.tls.lock()->app_transport();
        client.transport().write("before the handshake");
        EXPECT_EQ(client.transport().get_write_buffer_size(), 0u);  // it has not begun
        co_await coil::sleep(5ms);
        client.transport().write("during the handshake");
        EXPECT_EQ(client.transport().get_write_buffer_size(), 20u);
        server.start(std::move(other), server_settings());
        co_await until([&] { return server.app->data.size() == 20; });
        EXPECT_EQ(server.app->data, "during the handshake");
        EXPECT_EQ(client.app->events, Events{});
        client.transport().close();
        co_await until([&] { return client.app->lost && server.app->lost; });
        EXPECT_EQ(client.app->events, (Events{"lost nothing"}));
        client.app->transport = server.app->transport = nullptr;
    }());
}

TEST_P(TlsProtocols, tls_inside_tls) {
    run([]() -> Coro<> {
        Link<> outer;
        outer.start();
        co_await outer.connected();
        End<> client, server;
        auto inside = [](End<>& end, Transport& raw, TlsSettings settings) {
            auto protocol =
                std::make_shared<TlsProtocol>(get_running_loop(), end.app, std::move(settings),
                                              [&](std::exception_ptr e) { end.ready = error_text(e); });
            raw.set_protocol(protocol);
            protocol->connection_made(raw.shared_from_this());
        };
        inside(server, outer.server.transport(), server_settings());
        inside(client, outer.client.transport(), client_settings());
        co_await until([&] { return client.ready && server.ready; });
        EXPECT_EQ(*client.ready, "nothing");
        std::string data(2 << 20, 'x');
        client.transport().write(data);
        server.transport().write(data);
        client.transport().close();
        co_await until([&] { return client.app->lost && server.app->lost; });
        EXPECT_EQ(server.app->data.size(), data.size());
        EXPECT_EQ(client.app->events.back(), "lost nothing");
        EXPECT_EQ(server.app->events.back(), "lost nothing");
        for (auto* app : {client.app.get(), server.app.get(), outer.client.app.get(), outer.server.app.get()})
            app->transport = nullptr;
    }());
}

TEST_P(TlsProtocols, a_session_is_resumed) {
    run([]() -> Coro<> {
        SslContext context = client_context();
        SslContext serving = server_context();
        std::optional<SslSession> session;
        for (bool again : {false, true}) {
            Link<> link;
            TlsSettings settings = client_settings(context);
            settings.session = session;
            link.start(std::move(settings), server_settings(serving));
            co_await link.connected();
            link.server.transport().write("x");
            co_await until([&] { return !link.client.app->data.empty(); });
            auto object = std::any_cast<SslObject>(link.client.transport().get_extra_info("ssl_object"));
            EXPECT_EQ(object.session_reused(), again);
            session = object.session();
            link.client.transport().close();
            co_await link.closed();
        }
    }());
}

/// What a shell command prints, run beside the loop.
Coro<std::string> output_of(std::string command) {
    EventLoop& loop = get_running_loop();
    auto printed = std::make_shared<std::string>();
    Future<> ended = loop.create_future();
    std::thread shell([&loop, command, printed, ended] {
        if (FILE* pipe = ::popen(command.c_str(), "r")) {
            for (int c; (c = std::fgetc(pipe)) != EOF;) *printed += static_cast<char>(c);
            ::pclose(pipe);
        }
        loop.call_soon_threadsafe([ended]() mutable { ended.set_result(); });
    });
    co_await ended;
    shell.join();
    co_return *printed;
}

TEST_P(TlsProtocols, other_programs_understand_it) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string& authority = support::certificates().ca_file;
        for (const char* version : {"-tls1_2", "-tls1_3"}) {
            Socket listening(AF_INET, SOCK_STREAM);
            SocketAddress any{"127.0.0.1"};
            listening.bind(any);
            listening.listen();
            End<> server;
            server.app->on_data = [&] {
                server.transport().write("you said " + server.app->data);
                server.transport().close();
            };
            auto printing = create_task(output_of(
                "printf 'hello\n' | timeout 20 openssl s_client -quiet -verify_quiet -verify_return_error "
                "-verify_hostname localhost -servername localhost -CAfile " +
                authority + " " + version +
                " -connect 127.0.0.1:" + std::to_string(listening.getsockname().port) +
                " 2>&1 | grep -v '^Connecting to '"));  // newer ones say so
            auto accepted = co_await loop.sock_accept(listening);
            server.start(std::move(accepted.first), server_settings());
            EXPECT_EQ(co_await printing, "you said hello\n") << version;
            co_await until([&] { return server.app->lost; });
            EXPECT_EQ(*server.ready, "nothing");
            EXPECT_EQ(server.app->events, (Events{"made", "lost nothing"}));
            server.app->transport = nullptr;
        }
    }());
}

TEST_P(TlsProtocols, a_loop_may_close_in_the_middle) {
    std::size_t before = support::open_fds();
    support::LogRecorder log;
    for (int stage = 0; stage < 4; ++stage) {
        auto loop = make_loop();
        auto link = std::make_unique<Link<>>();
        loop->run_until_complete([](Link<>& connecting, int wanted) -> Coro<> {
            connecting.start();
            if (wanted == 0) co_return;
            co_await coil::sleep(0s);
            if (wanted == 1) co_return;
            co_await connecting.connected();
            if (wanted == 2) co_return;
            connecting.server.transport().pause_reading();
            connecting.client.transport().write(std::string(4 << 20, 'x'));
            connecting.client.transport().close();
        }(*link, stage));
        loop->close();
        loop.reset();
        if (link->client.app->transport) {
            EXPECT_TRUE(link->client.transport().is_closing());
            link->client.transport().write("nowhere");
            link->client.transport().close();
            link->client.transport().abort();
            link->client.transport().resume_reading();
        }
        EXPECT_TRUE(link->client.tls.expired());
        EXPECT_TRUE(link->server.tls.expired());
        link.reset();
        EXPECT_EQ(support::Alive::count(), 0);
    }
    EXPECT_LE(support::open_fds(), before);  // a ring of an earlier test may have let go meanwhile
}

TEST_P(TlsProtocols, writes_after_the_end_are_logged_once) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        Link<> link;
        link.start();
        co_await link.connected();
        link.client.transport().close();
        for (int i = 0; i < 20; ++i) link.client.transport().write("x");
        co_await link.closed();
        EXPECT_EQ(link.server.app->data, "");
    }());
    EXPECT_EQ(log.count("SSL connection is closed"), 1u);
}

}  // namespace
