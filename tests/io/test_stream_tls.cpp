// Streams over TLS, by the public interface alone.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <any>
#include <optional>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/memory_file.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/sockets.hpp"
#include "support/streams.hpp"
#include "support/tls.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::certificates;
using support::client_context;
using support::error_text;
using support::hang_up;
using support::MemoryFile;
using support::server_context;
using support::thrown_by_await;

namespace {

constexpr const char* CUT_OFF =
    "SslEofError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol";

/// Every test gives back all descriptors, and no error is reported behind its back.
class TlsStreams : public support::OnBackend {
  protected:
    void SetUp() override {
        certificates();
        OnBackend::SetUp();
        fds_ = support::open_fds();
    }
    void TearDown() override {
        if (!IsSkipped()) {
            EXPECT_EQ(support::open_fds(), fds_);
            EXPECT_EQ(reports.texts(), std::vector<std::string>{});
        }
        OnBackend::TearDown();
        EXPECT_EQ(support::Alive::count(), 0);
    }
    /// A minute is for a machine under load: nothing here waits for it.
    template <class T>
    T run(Coro<T> coro) {
        auto limited = [](Coro<T> body, support::Reports& told) -> Coro<T> {
            told.record(get_running_loop());
            co_return co_await wait_for(std::move(body), 60s);
        };
        return coil::run(limited(std::move(coro), reports), {.loop_factory = factory()});
    }

    support::Reports reports;

  private:
    std::size_t fds_ = 0;
};
ON_EVERY_BACKEND(TlsStreams);

int port_of(const Server& server) { return server.sockets().at(0).getsockname().port; }

/// A server that hands its connections to the test.
struct Listening {
    explicit Listening(std::optional<SslContext> its_context = server_context())
        : context(std::move(its_context)) {}

    Coro<> start(ServerOptions options = {}) {
        if (context) options.ssl = &*context;
        auto take = [this](StreamReader reader, StreamWriter writer) {
            accepted.put_nowait(Streams{std::move(reader), std::move(writer)});
        };
        server.emplace(co_await start_server(take, "127.0.0.1", 0, options));
        port = port_of(*server);
    }
    Coro<> close() {
        server->close();
        co_await server->wait_closed();
    }

    std::optional<SslContext> context;
    std::optional<Server> server;
    Queue<Streams> accepted;
    int port = 0;
};

Coro<> echo(StreamReader reader, StreamWriter writer) {
    for (;;) {
        auto data = co_await try_await(reader.read(64 * 1024));
        if (!data || data.value().empty()) break;
        writer.write(data.value());
        co_await try_await(writer.drain());
    }
    writer.close();
    co_await try_await(writer.wait_closed());
}

SslObject tls_of(const StreamWriter& writer) {
    return std::any_cast<SslObject>(writer.get_extra_info("ssl_object"));
}

std::string pattern(std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 2654435761u >> 11);
    return data;
}

// ---- connecting

TEST_P(TlsStreams, lines_go_both_ways_and_close_ends_both_sides) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        writer.write("to the server\n");
        writer.writelines({"in ", "", "parts\n"});
        server_writer.write("to the client\n");
        EXPECT_EQ(co_await server_reader.readline(), "to the server\n");
        EXPECT_EQ(co_await server_reader.readline(), "in parts\n");
        EXPECT_EQ(co_await reader.readexactly(14), "to the client\n");
        EXPECT_FALSE(writer.can_write_eof());
        writer.close();
        EXPECT_EQ(co_await server_reader.read(), "");
        EXPECT_TRUE(server_reader.at_eof());
        co_await writer.wait_closed();
        co_await hang_up(server_writer);
        EXPECT_EQ(co_await reader.read(), "");
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, what_was_agreed_on_can_be_asked_on_both_sides) {
    run([]() -> Coro<> {
        SslContext serving = server_context();
        serving.set_alpn_protocols({"coil/2", "coil/1"});
        serving.load_verify_locations({.cafile = certificates().ca_file});
        serving.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
        SslContext context = client_context();
        context.set_alpn_protocols({"other", "coil/1"});
        context.load_cert_chain(
            certificates().write("client.pem", certificates().authority.issue({.name = "the client"})));
        for (TlsVersion version : {TlsVersion::TLSv1_2, TlsVersion::TLSv1_3}) {
            context.set_minimum_version(version);
            context.set_maximum_version(version);
            const char* name = version == TlsVersion::TLSv1_2 ? "TLSv1.2" : "TLSv1.3";
            Listening listening(serving);
            co_await listening.start();
            auto [reader, writer] = co_await open_connection(
                "127.0.0.1", listening.port, {.ssl = &context, .server_hostname = "localhost"});
            auto [server_reader, server_writer] = co_await listening.accepted.get();
            SslObject ours = tls_of(writer), theirs = tls_of(server_writer);
            EXPECT_EQ(ours.version(), name);
            EXPECT_EQ(theirs.version(), name);
            EXPECT_EQ(ours.selected_alpn_protocol(), "coil/1");
            EXPECT_EQ(theirs.selected_alpn_protocol(), "coil/1");
            EXPECT_EQ(ours.server_hostname(), "localhost");
            EXPECT_EQ(theirs.server_hostname(), "localhost");
            EXPECT_FALSE(ours.server_side());
            EXPECT_TRUE(theirs.server_side());
            auto cipher = std::any_cast<SslCipher>(writer.get_extra_info("cipher"));
            EXPECT_EQ(cipher, std::any_cast<SslCipher>(server_writer.get_extra_info("cipher")));
            EXPECT_GE(cipher.bits, 128);
            auto shown = std::any_cast<SslCertificate>(writer.get_extra_info("peercert"));
            EXPECT_EQ(shown.subject(), (SslCertificate::Name{{"commonName", "localhost"}}));
            EXPECT_EQ(shown.issuer(), (SslCertificate::Name{{"commonName", "coil test authority"}}));
            auto clients = std::any_cast<SslCertificate>(server_writer.get_extra_info("peercert"));
            EXPECT_EQ(clients.subject(), (SslCertificate::Name{{"commonName", "the client"}}));
            EXPECT_EQ(std::any_cast<SslContext>(writer.get_extra_info("sslcontext")), context);
            EXPECT_EQ(std::any_cast<SocketAddress>(writer.get_extra_info("peername")).port, listening.port);
            EXPECT_FALSE(writer.get_extra_info("compression").has_value());
            co_await gather(hang_up(writer), hang_up(server_writer));
            co_await listening.close();
            EXPECT_EQ(ours.version(), name);  // it outlives the connection
        }
    }());
}

TEST_P(TlsStreams, a_wrong_name_is_refused) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        EXPECT_EQ(co_await thrown_by_await(open_connection(
                      "127.0.0.1", listening.port, {.ssl = &context, .server_hostname = "wrong.test"})),
                  "SslCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
                  "Hostname mismatch, certificate is not valid for 'wrong.test'.");
        // Without a name the host counts, be it an address.
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        EXPECT_EQ(co_await thrown_by_await(open_connection(
                      "127.0.0.1", listening.port, {.ssl = &context, .server_hostname = "127.0.0.2"})),
                  "SslCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP "
                  "address mismatch, certificate is not valid for '127.0.0.2'.");
        context.set_check_hostname(false);
        auto unchecked = co_await open_connection("127.0.0.1", listening.port,
                                                  {.ssl = &context, .server_hostname = "wrong.test"});
        auto first = co_await listening.accepted.get();
        auto second = co_await listening.accepted.get();
        co_await gather(hang_up(writer), hang_up(first.writer));
        co_await gather(hang_up(unchecked.writer), hang_up(second.writer));
        co_await listening.close();
        EXPECT_TRUE(listening.accepted.empty());  // the callback sees no connection whose handshake failed
    }());
}

TEST_P(TlsStreams, a_client_must_show_its_certificate_where_it_is_asked_for) {
    run([]() -> Coro<> {
        SslContext serving = server_context();
        serving.load_verify_locations({.cafile = certificates().ca_file});
        serving.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
        Listening listening(serving);
        co_await listening.start();
        SslContext context = client_context();
        // With TLS 1.3 the client's handshake is over before the server has seen what it did not send.
        auto late = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        EXPECT_EQ(co_await thrown_by_await(late.reader.read(1)),
                  "SslError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required");
        co_await try_await(late.writer.wait_closed());
        context.set_maximum_version(TlsVersion::TLSv1_2);
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", listening.port, {.ssl = &context})),
                  support::ssl_error(SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE));
        co_await listening.close();
        EXPECT_TRUE(listening.accepted.empty());
    }());
}

TEST_P(TlsStreams, over_a_unix_socket_the_name_is_given) {
    run([]() -> Coro<> {
        support::TemporaryDirectory directory;
        std::string path = directory.path("tls.sock");
        SslContext serving = server_context(), context = client_context();
        Server server = co_await start_unix_server(echo, path, {.ssl = &serving});
        auto [reader, writer] =
            co_await open_unix_connection(path, {.ssl = &context, .server_hostname = "localhost"});
        writer.write("hello\n");
        EXPECT_EQ(co_await reader.readline(), "hello\n");
        co_await hang_up(writer);
        EXPECT_EQ(co_await thrown_by_await(open_unix_connection(path, {.ssl = &context})),
                  "ValueError: You must set server_hostname when using ssl without a host");
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(TlsStreams, over_a_given_socket) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        Socket socket(AF_INET, SOCK_STREAM);
        SocketAddress address{"127.0.0.1", listening.port};
        co_await get_running_loop().sock_connect(socket, address);
        auto [reader, writer] =
            co_await open_connection(std::move(socket), {.ssl = &context, .server_hostname = "localhost"});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        writer.write("x");
        EXPECT_EQ(co_await server_reader.read(1), "x");
        co_await gather(hang_up(writer), hang_up(server_writer));
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, options_without_ssl_mean_nothing_and_say_so) {
    run([]() -> Coro<> {
        SslContext context = client_context();
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", 1, {.server_hostname = "localhost"})),
                  "ValueError: server_hostname is only meaningful with ssl");
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", 1, {.ssl_handshake_timeout = 1s})),
                  "ValueError: ssl_handshake_timeout is only meaningful with ssl");
        EXPECT_EQ(co_await thrown_by_await(start_server(echo, "127.0.0.1", 0, {.ssl_shutdown_timeout = 1s})),
                  "ValueError: ssl_shutdown_timeout is only meaningful with ssl");
        Listening listening;
        co_await listening.start();
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", listening.port,
                                                           {.ssl = &context, .ssl_handshake_timeout = 0s})),
                  "ValueError: ssl_handshake_timeout should be a positive number, got 0.0");
        co_await listening.close();
    }());
}

/// Options that are gone when the Coro is awaited.
Coro<Streams> connect_with_temporaries(int port) {
    SslContext context = client_context();
    std::string name = "localhost", local = "127.0.0.1";
    ConnectionOptions options{.ssl = &context, .server_hostname = name, .local_addr = HostPort(local, 0)};
    auto connecting = open_connection(std::string("127.0.0.1"), port, options);
    name.assign(name.size(), 'x');
    local.assign(local.size(), 'x');
    options = {};
    return connecting;
}
Coro<Server> serve_with_temporaries() {
    SslContext context = server_context();
    return start_server(echo, "127.0.0.1", 0, {.ssl = &context});
}
Coro<> upgrade_with_temporaries(StreamWriter writer) {
    std::string name = "localhost";
    auto upgrading = writer.start_tls(client_context(), {.server_hostname = name});
    name.assign(name.size(), 'x');
    return upgrading;
}

TEST_P(TlsStreams, what_options_refer_to_is_copied_by_the_call) {
    run([]() -> Coro<> {
        Coro<Server> serving = serve_with_temporaries();
        Server server = co_await std::move(serving);
        Coro<Streams> connecting = connect_with_temporaries(port_of(server));
        auto [reader, writer] = co_await std::move(connecting);
        EXPECT_EQ(tls_of(writer).server_hostname(), "localhost");
        writer.write("hello\n");
        EXPECT_EQ(co_await reader.readline(), "hello\n");
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();

        Listening plain{std::nullopt};
        co_await plain.start();
        auto client = co_await open_connection("127.0.0.1", plain.port);
        auto accepted = co_await plain.accepted.get();
        Coro<> upgrading = upgrade_with_temporaries(client.writer);
        co_await gather(accepted.writer.start_tls(server_context()), std::move(upgrading));
        EXPECT_EQ(tls_of(accepted.writer).server_hostname(), "localhost");
        co_await gather(hang_up(client.writer), hang_up(accepted.writer));
        co_await plain.close();
    }());
}

TEST_P(TlsStreams, a_session_is_resumed) {
    run([]() -> Coro<> {
        for (TlsVersion version : {TlsVersion::TLSv1_2, TlsVersion::TLSv1_3}) {
            SslContext serving = server_context(), context = client_context();
            context.set_maximum_version(version);
            Server server = co_await start_server(echo, "127.0.0.1", 0, {.ssl = &serving});
            std::optional<SslSession> session;
            for (int visit = 0; visit < 3; ++visit) {
                auto [reader, writer] =
                    co_await open_connection("127.0.0.1", port_of(server),
                                             {.ssl = &context, .session = session ? &*session : nullptr});
                writer.write("x");
                EXPECT_EQ(co_await reader.read(1), "x");  // with TLS 1.3 the tickets came before it
                EXPECT_EQ(tls_of(writer).session_reused(), visit > 0);
                session = tls_of(writer).session();
                EXPECT_TRUE(session && session->resumable());
                co_await hang_up(writer);
            }
            EXPECT_EQ(serving.session_stats().hits, 2);
            server.close();
            co_await server.wait_closed();
        }
    }());
}

// ---- data

Coro<> send_all(StreamWriter writer, const std::string& data) {
    for (std::size_t i = 0; i < data.size(); i += 300'000) {
        writer.write(std::string_view(data).substr(i, 300'000));
        co_await writer.drain();
    }
}

TEST_P(TlsStreams, eight_megabytes_both_ways_at_once) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        std::string up = pattern(8 << 20), down = up;
        std::reverse(down.begin(), down.end());
        auto sending = create_task(send_all(writer, up));
        auto answering = create_task(send_all(server_writer, down));
        auto [there, here] =
            co_await gather(server_reader.readexactly(up.size()), reader.readexactly(down.size()));
        co_await sending;
        co_await answering;
        EXPECT_TRUE(there == up);
        EXPECT_TRUE(here == down);
        co_await gather(hang_up(writer), hang_up(server_writer));
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, close_sends_what_was_written) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        std::string data = pattern(4 << 20);
        server_writer.write(data);
        server_writer.close();
        co_await support::turns(3);
        EXPECT_TRUE(co_await reader.read() == data);
        co_await gather(hang_up(writer), hang_up(server_writer));
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, drain_waits_for_a_peer_that_does_not_read) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        // Both kernels' buffers and the server's reader are full at some point.
        const std::string block(1 << 20, 'x');
        std::size_t written = 0;
        std::optional<Task<>> draining;
        while (written < (std::size_t{64} << 20)) {
            writer.write(block);
            written += block.size();
            draining.emplace(create_task(writer.drain()));
            co_await coil::sleep(20ms);
            if (!draining->done()) break;
            co_await *draining;
        }
        EXPECT_FALSE(draining->done());
        EXPECT_GT(writer.transport()->get_write_buffer_size(), 0u);
        std::string received = co_await server_reader.readexactly(written);
        co_await *draining;
        EXPECT_EQ(received.size(), written);
        co_await gather(hang_up(writer), hang_up(server_writer));
        co_await listening.close();
    }());
}

// ---- files

TEST_P(TlsStreams, a_file_is_read_and_sent_with_what_is_around_it) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        const std::string data = pattern(3'000'000);
        MemoryFile file(data);
        auto receiving = create_task(server_reader.read());
        writer.write("head:");
        EXPECT_EQ(co_await loop.sendfile(writer.transport(), file.fileno()), data.size());
        EXPECT_EQ(file.position(), 3'000'000);
        EXPECT_EQ(co_await loop.sendfile(writer.transport(), file.fileno(), 100, 7), 7u);
        EXPECT_EQ(file.position(), 107);
        EXPECT_EQ(co_await loop.sendfile(writer.transport(), file.fileno(), 5'000'000), 0u);
        std::int64_t beyond = 100;
        EXPECT_EQ(co_await loop.sendfile(writer.transport(), file.fileno(), 2'999'999, beyond), 1u);
        writer.write(":tail");
        SendfileOptions strict{.fallback = false};
        EXPECT_EQ(
            co_await thrown_by_await(loop.sendfile(writer.transport(), file.fileno(), 0, {}, strict)),
            "RuntimeError: fallback is disabled and native sendfile is not supported for this transport");
        // The protocol is back: what the other side sends arrives.
        server_writer.write("answer\n");
        EXPECT_EQ(co_await reader.readline(), "answer\n");
        writer.close();
        EXPECT_TRUE(co_await receiving == "head:" + data + data.substr(100, 7) + data.back() + ":tail");
        co_await gather(writer.wait_closed(), hang_up(server_writer));
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, a_file_does_not_pile_up_behind_what_waits_already) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        constexpr std::size_t BEFORE = 20'000'000;
        auto transport = writer.transport();
        MemoryFile file(std::string(24'000'000, 'f'));
        writer.write(std::string(BEFORE, 'w'));  // the protocol is paused from now on
        auto sending = create_task(loop.sendfile(writer.transport(), file.fileno()));
        co_await coil::sleep(0s);
        EXPECT_EQ(co_await thrown_by_await(loop.sendfile(transport, file.fileno())),
                  "RuntimeError: sendfile is in progress on this transport already");
        std::size_t waiting = transport->get_write_buffer_size();
        EXPECT_GT(waiting, transport->get_write_buffer_limits().second);
        // Time for some reads, if there were any.
        for (int i = 0; i < 5; ++i) co_await read_bytes("/proc/self/stat");
        EXPECT_LE(transport->get_write_buffer_size(), waiting);
        std::string got = co_await server_reader.readexactly(BEFORE + 24'000'000);
        EXPECT_EQ(got.find('f'), BEFORE);
        EXPECT_EQ(co_await sending, 24'000'000u);
        co_await gather(hang_up(writer), hang_up(server_writer));
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, a_file_that_is_being_sent_ends_with_its_connection) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        MemoryFile file(std::string(40'000'000, 'f'));
        for (int how = 0; how < 3; ++how) {
            Listening listening;
            co_await listening.start();
            SslContext context = client_context();
            auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
            auto [server_reader, server_writer] = co_await listening.accepted.get();
            auto sending = create_task(thrown_by_await(loop.sendfile(writer.transport(), file.fileno())));
            co_await server_reader.readexactly(1);
            EXPECT_FALSE(sending.done());
            if (how == 0) writer.transport()->abort();
            if (how == 1) server_writer.transport()->abort();
            if (how == 2) {
                support::close_hard(std::any_cast<TransportSocket>(server_writer.get_extra_info("socket")));
                server_writer.transport()->abort();
            }
            EXPECT_EQ(co_await sending, "ConnectionError: Connection closed by peer") << how;
            EXPECT_GT(file.position(), 0);
            EXPECT_LT(file.position(), 40'000'000);
            co_await try_await(writer.wait_closed());
            server_writer.transport()->abort();
            co_await try_await(server_writer.wait_closed());
            co_await listening.close();
        }
    }());
}

// ---- ends

TEST_P(TlsStreams, an_end_without_close_notify_is_told_from_a_clean_one) {
    run([]() -> Coro<> {
        for (bool clean : {true, false}) {
            Listening listening;
            co_await listening.start();
            SslContext context = client_context();
            auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
            auto [server_reader, server_writer] = co_await listening.accepted.get();
            server_writer.write("all of it");
            clean ? server_writer.transport()->close() : server_writer.transport()->abort();
            EXPECT_EQ(co_await reader.readexactly(9), "all of it");
            if (clean) {
                EXPECT_EQ(co_await reader.read(100), "");
                EXPECT_TRUE(reader.at_eof());
                co_await hang_up(writer);
            } else {
                EXPECT_EQ(co_await thrown_by_await(reader.read(100)), CUT_OFF);
                EXPECT_FALSE(reader.at_eof());
                EXPECT_EQ(co_await thrown_by_await(writer.wait_closed()), CUT_OFF);
            }
            co_await server_writer.wait_closed();
            co_await listening.close();
        }
    }());
}

TEST_P(TlsStreams, a_peer_that_does_not_answer_to_close_is_left_after_a_while) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start({.ssl_shutdown_timeout = 30ms});
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto [server_reader, server_writer] = co_await listening.accepted.get();
        writer.transport()->pause_reading();
        // What the peer does not read keeps the close_notify back.
        server_writer.write(std::string(32 << 20, 'x'));
        server_writer.close();
        EXPECT_EQ(co_await thrown_by_await(server_writer.wait_closed()),
                  "TimeoutError: SSL shutdown timed out");
        writer.transport()->abort();
        co_await writer.wait_closed();
        co_await listening.close();
    }());
}

TEST_P(TlsStreams, close_clients_says_goodbye_and_abort_clients_cuts_off) {
    run([]() -> Coro<> {
        for (bool abort : {false, true}) {
            Listening listening;
            co_await listening.start();
            SslContext context = client_context();
            std::vector<Streams> clients;
            std::vector<Streams> accepted;
            for (int i = 0; i < 3; ++i) {
                clients.push_back(co_await open_connection("127.0.0.1", listening.port, {.ssl = &context}));
                // The tickets are read, so that the end is no reset.
                accepted.push_back(co_await listening.accepted.get());
                accepted.back().writer.write("x");
                EXPECT_EQ(co_await clients.back().reader.readexactly(1), "x");
            }
            listening.server->close();
            auto ended = create_task(listening.server->wait_closed());
            abort ? listening.server->abort_clients() : listening.server->close_clients();
            for (Streams& client : clients) {
                if (abort) {
                    EXPECT_EQ(co_await thrown_by_await(client.reader.read()), CUT_OFF);
                    EXPECT_EQ(co_await thrown_by_await(client.writer.wait_closed()), CUT_OFF);
                } else {
                    EXPECT_EQ(co_await client.reader.read(), "");
                    co_await client.writer.wait_closed();
                }
            }
            co_await ended;
            for (Streams& each : accepted) {
                EXPECT_EQ(co_await each.reader.read(), "");
                EXPECT_TRUE(each.writer.is_closing());
                co_await each.writer.wait_closed();
            }
        }
    }());
}

// ---- peers that do not speak TLS

TEST_P(TlsStreams, a_silent_server_is_left_after_a_while) {
    run([]() -> Coro<> {
        Listening silent{std::nullopt};
        co_await silent.start();
        SslContext context = client_context();
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", silent.port,
                                                           {.ssl = &context, .ssl_handshake_timeout = 20ms})),
                  "ConnectionAbortedError: SSL handshake is taking longer than 0.02 seconds: aborting the "
                  "connection");
        auto [reader, writer] = co_await silent.accepted.get();
        EXPECT_FALSE((co_await reader.read()).empty());  // the hello, and the end
        co_await hang_up(writer);
        co_await silent.close();
    }());
}

TEST_P(TlsStreams, a_silent_client_is_left_after_a_while) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start({.ssl_handshake_timeout = 20ms});
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port);
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        co_await listening.close();
        EXPECT_TRUE(listening.accepted.empty());
    }());
}

TEST_P(TlsStreams, a_server_survives_what_is_no_tls) {
    run([]() -> Coro<> {
        SslContext serving = server_context(), context = client_context();
        Server server = co_await start_server(echo, "127.0.0.1", 0, {.ssl = &serving});
        std::vector<std::string> greetings{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                           std::string(1000, '\0'),
                                           pattern(100'000),
                                           "\x16\x03\x01",  // the beginning of a record
                                           "\x15\x03\x03\x00\x02\x01\x00",
                                           ""};
        for (int round = 0; round < 30; ++round) {
            for (const std::string& greeting : greetings) {
                auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
                writer.write(greeting);
                if (greeting.size() < 10) {
                    writer.write_eof();  // the server has to wait for more
                }
                co_await try_await(reader.read());  // an alert and the end, or a reset
                writer.close();
                co_await try_await(writer.wait_closed());
            }
        }
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server), {.ssl = &context});
        writer.write("still there\n");
        EXPECT_EQ(co_await reader.readline(), "still there\n");
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(TlsStreams, a_client_says_what_is_wrong_with_a_server_without_tls) {
    run([]() -> Coro<> {
        Listening plain{std::nullopt};
        co_await plain.start();
        SslContext context = client_context();
        auto connecting =
            create_task(thrown_by_await(open_connection("127.0.0.1", plain.port, {.ssl = &context})));
        auto accepted = co_await plain.accepted.get();
        accepted.writer.write("220 mail.test ESMTP\r\n");
        EXPECT_EQ(co_await connecting, "SslError: [SSL: WRONG_VERSION_NUMBER] wrong version number");
        co_await try_await(accepted.reader.read());
        accepted.writer.close();
        co_await try_await(accepted.writer.wait_closed());

        auto again =
            create_task(thrown_by_await(open_connection("127.0.0.1", plain.port, {.ssl = &context})));
        auto second = co_await plain.accepted.get();
        co_await second.reader.read(1000);  // what is unread would make the end a reset
        co_await hang_up(second.writer);
        EXPECT_EQ(co_await again,
                  "ConnectionResetError: [Errno 104] the connection was closed during the SSL handshake");
        co_await plain.close();
    }());
}

// ---- start_tls

Coro<> serve_mail(StreamReader reader, StreamWriter writer) {
    support::Alive here;
    writer.write("220 ready\r\n");
    for (;;) {
        std::string line = co_await reader.readline();
        if (line == "STARTTLS\r\n") {
            writer.write("220 go ahead\r\n");
            co_await writer.start_tls(server_context());
        } else if (line == "QUIT\r\n") {
            break;
        } else {
            bool safe = writer.get_extra_info("ssl_object").has_value();
            writer.write((safe ? "250 safe " : "250 plain ") + line);
        }
        co_await writer.drain();
    }
    co_await hang_up(writer);
}

TEST_P(TlsStreams, a_dialogue_turns_to_tls) {
    run([]() -> Coro<> {
        Server server = co_await start_server(serve_mail, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        EXPECT_EQ(co_await reader.readline(), "220 ready\r\n");
        writer.write("one\r\n");
        EXPECT_EQ(co_await reader.readline(), "250 plain one\r\n");
        EXPECT_TRUE(writer.can_write_eof());
        writer.write("STARTTLS\r\n");
        EXPECT_EQ(co_await reader.readline(), "220 go ahead\r\n");
        co_await writer.start_tls(client_context(), {.server_hostname = "localhost"});
        EXPECT_EQ(tls_of(writer).version(), "TLSv1.3");
        EXPECT_FALSE(writer.can_write_eof());
        writer.write("two\r\n");
        EXPECT_EQ(co_await reader.readline(), "250 safe two\r\n");
        writer.write("QUIT\r\n");
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(TlsStreams, start_tls_checks_the_name_and_closes_on_failure) {
    run([]() -> Coro<> {
        Listening plain{std::nullopt};
        co_await plain.start();
        auto [reader, writer] = co_await open_connection("127.0.0.1", plain.port);
        auto accepted = co_await plain.accepted.get();
        auto serving = create_task(thrown_by_await(accepted.writer.start_tls(server_context())));
        EXPECT_EQ(
            co_await thrown_by_await(writer.start_tls(client_context(), {.server_hostname = "wrong.test"})),
            "SslCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "Hostname mismatch, certificate is not valid for 'wrong.test'.");
        EXPECT_EQ(co_await serving, support::ssl_error(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE));
        EXPECT_TRUE(writer.is_closing());
        EXPECT_TRUE(accepted.writer.is_closing());
        co_await try_await(writer.wait_closed());
        co_await try_await(accepted.writer.wait_closed());
        EXPECT_FALSE(co_await thrown_by_await(reader.read()) == "nothing");
        co_await plain.close();
    }());
}

TEST_P(TlsStreams, bytes_that_came_before_start_tls_are_not_taken_for_protected_ones) {
    run([]() -> Coro<> {
        Listening plain{std::nullopt};
        co_await plain.start();
        auto [reader, writer] = co_await open_connection("127.0.0.1", plain.port);
        auto accepted = co_await plain.accepted.get();
        accepted.writer.write("220 go ahead\r\n250 injected\r\n");
        EXPECT_EQ(co_await reader.readline(), "220 go ahead\r\n");
        EXPECT_EQ(
            co_await thrown_by_await(writer.start_tls(client_context(), {.server_hostname = "localhost"})),
            "RuntimeError: start_tls(): bytes that arrived without TLS have not been read; they would "
            "pass for protected ones");
        // Nothing has happened yet: who reads them may go on.
        EXPECT_EQ(co_await reader.readline(), "250 injected\r\n");
        co_await gather(accepted.writer.start_tls(server_context()),
                        writer.start_tls(client_context(), {.server_hostname = "localhost"}));
        writer.write("x");
        EXPECT_EQ(co_await accepted.reader.read(1), "x");
        co_await gather(hang_up(writer), hang_up(accepted.writer));
        co_await plain.close();
    }());
}

TEST_P(TlsStreams, injected_bytes_that_are_still_in_the_kernel_break_the_handshake) {
    run([]() -> Coro<> {
        Listening plain{std::nullopt};
        co_await plain.start();
        auto [reader, writer] = co_await open_connection("127.0.0.1", plain.port);
        auto accepted = co_await plain.accepted.get();
        writer.transport()->pause_reading();
        accepted.writer.write("250 injected\r\n");
        auto serving = create_task(thrown_by_await(accepted.writer.start_tls(server_context())));
        auto outcome =
            co_await try_await(writer.start_tls(client_context(), {.server_hostname = "localhost"}));
        EXPECT_FALSE(outcome);
        EXPECT_NE(co_await thrown_by_await(reader.read()), "nothing");
        EXPECT_NE(co_await serving, "nothing");
        co_await try_await(writer.wait_closed());
        co_await try_await(accepted.writer.wait_closed());
        co_await plain.close();
    }());
}

TEST_P(TlsStreams, start_tls_over_tls) {
    run([]() -> Coro<> {
        Listening listening;
        co_await listening.start();
        SslContext context = client_context();
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        auto accepted = co_await listening.accepted.get();
        co_await gather(accepted.writer.start_tls(server_context()),
                        writer.start_tls(context, {.server_hostname = "localhost"}));
        std::string data = pattern(1 << 20);
        auto sending = create_task(send_all(writer, data));
        EXPECT_TRUE(co_await accepted.reader.readexactly(data.size()) == data);
        co_await sending;
        co_await gather(hang_up(writer), hang_up(accepted.writer));
        co_await listening.close();
    }());
}

/// Collects what it is told.
class Collector : public Protocol {
  public:
    void connection_made(std::shared_ptr<Transport> its_transport) override {
        transport = std::move(its_transport);
        ++made;
        if (!connected.done()) connected.set_result();
    }
    void data_received(std::string_view data) override {
        received += data;
        if (received.ends_with('\n')) line.set();
    }
    bool eof_received() override {
        eof = true;
        return false;
    }
    void connection_lost(std::exception_ptr error) override { lost.set_result(error_text(error)); }

    std::shared_ptr<Transport> transport;
    Future<> connected = get_running_loop().create_future();
    Future<std::string> lost = get_running_loop().create_future<std::string>();
    std::string received;
    coil::Event line;
    int made = 0;
    bool eof = false;
    support::Alive alive;
};

TEST_P(TlsStreams, loop_start_tls_keeps_the_protocols) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto theirs = std::make_shared<Collector>();
        Server server = co_await loop.create_server([&] { return theirs; }, "127.0.0.1", 0);
        auto [transport, ours] = co_await loop.create_connection([] { return std::make_shared<Collector>(); },
                                                                 "127.0.0.1", port_of(server));
        co_await theirs->connected;
        auto [server_tls, client_tls] = co_await gather(
            loop.start_tls(theirs->transport, theirs, server_context(), {.server_side = true}),
            loop.start_tls(transport, ours, client_context(), {.server_hostname = "localhost"}));
        EXPECT_EQ(client_tls->get_protocol(), ours);
        EXPECT_NE(client_tls, transport);
        client_tls->write("to the server\n");
        server_tls->write("to the client\n");
        co_await gather(ours->line.wait(), theirs->line.wait());
        EXPECT_EQ(theirs->received, "to the server\n");
        EXPECT_EQ(ours->received, "to the client\n");
        client_tls->close();
        EXPECT_EQ(co_await ours->lost, "nothing");
        EXPECT_EQ(co_await theirs->lost, "nothing");
        EXPECT_TRUE(theirs->eof);
        EXPECT_EQ(ours->made, 1);
        EXPECT_EQ(theirs->made, 1);
        ours->transport = nullptr;
        theirs->transport = nullptr;
        server.close();
        co_await server.wait_closed();
    }());
}

// ---- cancellation

TEST_P(TlsStreams, cancelling_a_handshake_at_any_time_leaves_nothing_behind) {
    run([]() -> Coro<> {
        SslContext serving = server_context(), context = client_context();
        Server server = co_await start_server(echo, "127.0.0.1", 0, {.ssl = &serving});
        int port = port_of(server);
        int longest = 4, cut = 0, whole = 0;  // turns that a connection takes
        for (int round = 0; round < 600; ++round) {
            auto connecting = create_task(open_connection("127.0.0.1", port, {.ssl = &context}));
            if (round % 20 == 0) {
                int taken = 0;
                for (; !connecting.done(); ++taken) co_await coil::sleep(0s);
                longest = std::max(longest, std::min(taken, 1000));
            } else {
                co_await support::turns(round * 7 % (longest + 1));
                connecting.cancel();
            }
            auto outcome = co_await try_await(connecting);
            outcome ? ++whole : ++cut;
            if (!outcome) {
                EXPECT_TRUE(outcome.cancelled()) << error_text(outcome.exception());
                continue;
            }
            StreamWriter writer = outcome.value().writer;
            writer.close();
            auto closing = create_task(writer.wait_closed());
            co_await support::turns(round % 4);
            closing.cancel();
            co_await try_await(closing);
        }
        EXPECT_GE(whole, 30);
        EXPECT_GT(cut, 0);
        server.close();
        server.close_clients();
        co_await server.wait_closed();
    }());
}

TEST_P(TlsStreams, cancelling_reads_and_drains_loses_no_byte) {
    run([]() -> Coro<> {
        SslContext serving = server_context(), context = client_context();
        Server server = co_await start_server(echo, "127.0.0.1", 0, {.ssl = &serving});
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server), {.ssl = &context});
        for (int round = 0; round < 3000; ++round) {
            std::string message = fmt::format("message {}\n", round);
            auto reading = create_task(reader.readline());
            writer.write(message);
            co_await support::turns(round % 9);
            auto draining = create_task(writer.drain());
            draining.cancel();
            co_await try_await(draining);
            reading.cancel();
            auto read = co_await try_await(reading);
            std::string got;
            if (read) {
                got = read.value();
            } else {
                got = co_await reader.readline();
            }
            EXPECT_EQ(got, message);
        }
        // A drain that really waits.
        std::string block(4 << 20, 'x');
        for (int round = 0; round < 20; ++round) {
            writer.write(block);
            auto draining = create_task(writer.drain());
            co_await support::turns(round);
            draining.cancel();
            co_await try_await(draining);
            EXPECT_EQ((co_await reader.readexactly(block.size())).size(), block.size());
        }
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(TlsStreams, cancelling_start_tls_closes_the_connection_and_nothing_is_left) {
    run([]() -> Coro<> {
        SslContext serving = server_context(), context = client_context();
        bool cancel_server = false;
        int turns = 0;
        auto upgrade = [&](StreamReader reader, StreamWriter writer) -> Coro<> {
            support::Alive here;
            auto upgrading = create_task(writer.start_tls(serving));
            if (cancel_server) {
                co_await support::turns(turns);
                upgrading.cancel();
            }
            auto outcome = co_await try_await(upgrading);
            if (outcome) co_await try_await(reader.read());
            writer.close();
            co_await try_await(writer.wait_closed());
        };
        Server server = co_await start_server(upgrade, "127.0.0.1", 0);
        int longest = 4, cut = 0, whole = 0;
        for (int round = 0; round < 600; ++round) {
            cancel_server = round % 3 == 1;
            turns = round * 7 % (longest + 1);
            auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
            auto upgrading = create_task(writer.start_tls(context, {.server_hostname = "localhost"}));
            if (round % 20 == 0) {
                int taken = 0;
                for (; !upgrading.done(); ++taken) co_await coil::sleep(0s);
                longest = std::max(longest, std::min(taken, 1000));
            } else if (!cancel_server) {
                co_await support::turns(turns);
                upgrading.cancel();
            }
            auto outcome = co_await try_await(upgrading);
            outcome ? ++whole : ++cut;
            EXPECT_TRUE(outcome || cancel_server || outcome.cancelled());
            bool begun = turns > 0 || round % 20 == 0 || cancel_server;
            EXPECT_TRUE(outcome || writer.is_closing() || !begun);
            writer.close();
            co_await try_await(writer.wait_closed());
        }
        EXPECT_GT(whole, 0);
        EXPECT_GT(cut, 0);
        server.close();
        co_await server.wait_closed();
    }());
}

}  // namespace
