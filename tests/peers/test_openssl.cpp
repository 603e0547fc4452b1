// openssl s_server and s_client.

#include <openssl/x509_vfy.h>

#include <any>

#include "peers/fixture.hpp"

using namespace coil;
using namespace peers;
using support::certificates;
using support::client_context;
using support::error_text;
using support::server_context;
using support::thrown_by_await;

namespace {

using peers::Process;  // not coil's

class OpensslPeers : public Peers {};
ON_EVERY_BACKEND(OpensslPeers);

struct Listening {
    std::optional<Process> process;
    int port = 0;
};

/// On a port of its own choice, which it prints.
Coro<Listening> s_server(std::string certificate, std::vector<std::string> more = {}) {
    std::vector<std::string> command{"openssl", "s_server",  "-accept", "127.0.0.1:0",
                                     "-cert",   certificate, "-key",    certificate};
    command.insert(command.end(), more.begin(), more.end());
    Listening listening;
    listening.process.emplace(co_await Process::start(std::move(command)));
    std::string line = co_await listening.process->line_with("ACCEPT");
    listening.port = std::stoi(line.substr(line.rfind(':') + 1));
    co_return listening;
}

Coro<Process> s_client(int port, std::vector<std::string> more = {}) {
    std::vector<std::string> command{"openssl",
                                     "s_client",
                                     "-connect",
                                     fmt::format("127.0.0.1:{}", port),
                                     "-CAfile",
                                     certificates().ca_file,
                                     "-quiet",
                                     "-no_ign_eof",
                                     "-verify_return_error"};
    command.insert(command.end(), more.begin(), more.end());
    return Process::start(std::move(command));
}

/// Hands its connections to the test.
struct CoilServer {
    explicit CoilServer(SslContext its_context) : context(std::move(its_context)) {}
    Coro<> start() {
        auto take = [this](StreamReader reader, StreamWriter writer) {
            accepted.put_nowait(Streams{std::move(reader), std::move(writer)});
        };
        server.emplace(co_await start_server(take, "127.0.0.1", 0, {.ssl = &context}));
        port = port_of(*server);
    }
    Coro<> close() {
        server->close();
        co_await server->wait_closed();
    }
    SslContext context;
    std::optional<Server> server;
    Queue<Streams> accepted;
    int port = 0;
};

TEST_P(OpensslPeers, a_client_of_coil_speaks_with_s_server) {
    run([]() -> Coro<> {
        for (const char* version : {"TLSv1.2", "TLSv1.3"}) {
            std::vector<std::string> options{std::string_view(version) == "TLSv1.3" ? "-tls1_3" : "-tls1_2",
                                             "-rev", "-alpn", "coil/2,coil/1"};
            auto listening = co_await s_server(certificates().server_file, options);
            SslContext context = client_context();
            context.set_alpn_protocols({"coil/1"});
            auto [reader, writer] = co_await open_connection(
                "127.0.0.1", listening.port, {.ssl = &context, .server_hostname = "localhost"});
            EXPECT_EQ(tls_of(writer).version(), version);
            EXPECT_EQ(tls_of(writer).selected_alpn_protocol(), "coil/1");
            writer.write("hello\n");
            EXPECT_EQ(co_await reader.readline(), "olleh\n");
            writer.write(std::string(10'000, 'a') + "b\n");
            EXPECT_EQ(co_await reader.readline(), "b" + std::string(10'000, 'a') + "\n");
            co_await hang_up(writer);
        }
    }());
}

TEST_P(OpensslPeers, s_server_shows_the_certificate_of_the_name_that_is_asked_for) {
    run([]() -> Coro<> {
        const std::string second =
            certificates().write("second.pem", certificates().authority.issue({.name = "second"}));
        std::vector<std::string> options{"-rev", "-servername", "localhost", "-cert2",
                                         second, "-key2",       second};
        auto listening = co_await s_server(certificates().server_file, options);
        SslContext context = client_context();
        for (bool named : {true, false}) {
            auto [reader, writer] = co_await open_connection(
                "127.0.0.1", listening.port,
                {.ssl = &context, .server_hostname = named ? "localhost" : "127.0.0.1"});
            auto shown = std::any_cast<SslCertificate>(writer.get_extra_info("peercert"));
            EXPECT_EQ(shown.subject(),
                      (SslCertificate::Name{{"commonName", named ? "second" : "localhost"}}));
            co_await hang_up(writer);
        }
    }());
}

TEST_P(OpensslPeers, s_client_speaks_with_a_server_of_coil) {
    run([]() -> Coro<> {
        for (const char* version : {"TLSv1.2", "TLSv1.3"}) {
            SslContext context = server_context();
            context.set_alpn_protocols({"coil/2", "coil/1"});
            CoilServer server(context);
            co_await server.start();
            std::vector<std::string> options{std::string_view(version) == "TLSv1.3" ? "-tls1_3" : "-tls1_2",
                                             "-alpn",
                                             "coil/1",
                                             "-servername",
                                             "some.name",
                                             "-verify_hostname",
                                             "localhost"};
            auto client = co_await s_client(server.port, options);
            auto [reader, writer] = co_await server.accepted.get();
            EXPECT_EQ(tls_of(writer).version(), version);
            EXPECT_EQ(tls_of(writer).selected_alpn_protocol(), "coil/1");
            EXPECT_EQ(tls_of(writer).server_hostname(), "some.name");
            EXPECT_FALSE(writer.get_extra_info("peercert").has_value());
            client.write("from s_client\n");
            EXPECT_EQ(co_await reader.readline(), "from s_client\n");
            writer.write("from coil\n");
            EXPECT_EQ(co_await client.line_with("from coil"), "from coil\n");
            client.close_input();
            EXPECT_EQ(co_await reader.read(), "");  // it says goodbye
            co_await hang_up(writer);
            auto ended = co_await client.finish();
            EXPECT_EQ(ended.exit_code, 0) << ended.output;
            co_await server.close();
        }
    }());
}

TEST_P(OpensslPeers, a_session_with_s_server_is_resumed) {
    run([]() -> Coro<> {
        // A ticket for each version; TLS 1.2 can also have the session in the server's cache.
        const std::vector<std::vector<std::string>> ways{{"-tls1_3"}, {"-tls1_2"}, {"-tls1_2", "-no_ticket"}};
        for (const auto& way : ways) {
            std::vector<std::string> options{"-rev"};
            options.insert(options.end(), way.begin(), way.end());
            auto listening = co_await s_server(certificates().server_file, options);
            SslContext context = client_context();
            std::optional<SslSession> session;
            for (int visit = 0; visit < 3; ++visit) {
                ConnectionOptions how{.ssl = &context, .server_hostname = "localhost"};
                if (session) how.session = &*session;
                auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, how);
                writer.write("hello\n");
                EXPECT_EQ(co_await reader.readline(), "olleh\n");
                EXPECT_EQ(tls_of(writer).session_reused(), visit > 0) << way.back();
                session = tls_of(writer).session();
                EXPECT_TRUE(session && session->resumable());
                EXPECT_EQ(session && session->has_ticket(), way.size() == 1);
                co_await hang_up(writer);
            }
        }
    }());
}

TEST_P(OpensslPeers, s_client_resumes_a_session_with_a_server_of_coil) {
    run([]() -> Coro<> {
        for (const char* version : {"-tls1_3", "-tls1_2"}) {
            CoilServer server(server_context());
            co_await server.start();
            const std::string file = certificates().directory.path(fmt::format("session{}", version));
            for (int visit = 0; visit < 3; ++visit) {
                std::vector<std::string> options{version, "-sess_out", file};
                if (visit > 0) options.insert(options.end(), {"-sess_in", file});
                auto client = co_await s_client(server.port, options);
                auto [reader, writer] = co_await server.accepted.get();
                EXPECT_EQ(tls_of(writer).session_reused(), visit > 0) << version;
                writer.write("hello\n");  // behind the tickets
                EXPECT_EQ(co_await client.line_with("hello"), "hello\n");
                client.close_input();
                EXPECT_EQ(co_await reader.read(), "");
                co_await hang_up(writer);
                co_await client.finish();
            }
            EXPECT_EQ(server.context.session_stats().hits, 2);
            co_await server.close();
        }
    }());
}

TEST_P(OpensslPeers, a_clients_certificate_is_asked_for) {
    run([]() -> Coro<> {
        std::string file =
            certificates().write("client.pem", certificates().authority.issue({.name = "the client"}));
        std::string stranger = certificates().write("stranger.pem", support::self_signed());
        {
            // By coil.
            SslContext context = server_context();
            context.load_verify_locations({.cafile = certificates().ca_file});
            context.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
            CoilServer server(context);
            co_await server.start();
            std::vector<std::string> known_options{"-cert", file, "-key", file};
            std::vector<std::string> unknown_options{"-cert", stranger, "-key", stranger};
            auto client = co_await s_client(server.port, known_options);
            auto [reader, writer] = co_await server.accepted.get();
            auto shown = std::any_cast<SslCertificate>(writer.get_extra_info("peercert"));
            EXPECT_EQ(shown.subject(), (SslCertificate::Name{{"commonName", "the client"}}));
            client.close_input();
            EXPECT_EQ(co_await reader.read(), "");
            co_await hang_up(writer);
            co_await client.finish();

            auto nameless = co_await s_client(server.port);
            EXPECT_NE(co_await nameless.line_with("alert"), "");
            auto unknown = co_await s_client(server.port, unknown_options);
            EXPECT_NE(co_await unknown.line_with("alert"), "");
            EXPECT_TRUE(server.accepted.empty());
            co_await nameless.finish();
            co_await unknown.finish();
            co_await server.close();
        }
        // By s_server. With TLS 1.2 it refuses within the handshake.
        std::vector<std::string> verifying{
            "-rev", "-tls1_2", "-Verify", "1", "-CAfile", certificates().ca_file, "-verify_return_error"};
        auto listening = co_await s_server(certificates().server_file, verifying);
        SslContext context = client_context();
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", listening.port, {.ssl = &context})),
                  support::ssl_error(SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE));
        context.load_cert_chain(file);
        auto [reader, writer] = co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
        writer.write("hello\n");
        EXPECT_EQ(co_await reader.readline(), "olleh\n");
        co_await hang_up(writer);
    }());
}

TEST_P(OpensslPeers, bad_certificates_are_refused) {
    run([]() -> Coro<> {
        support::Authority other("another authority");
        support::Authority& authority = certificates().authority;
        struct Case {
            const char* name;
            support::Identity identity;
            const char* error;
        };
        std::vector<Case> cases;
        cases.push_back({"wrong_name", authority.issue({.name = "x", .alt_names = {"DNS:other.test"}}),
                         "Hostname mismatch, certificate is not valid for 'localhost'."});
        cases.push_back({"expired", authority.issue({.valid_from = -7200, .valid_until = -3600}),
                         "certificate has expired"});
        cases.push_back({"early", authority.issue({.valid_from = 3600}),
                         X509_verify_cert_error_string(X509_V_ERR_CERT_NOT_YET_VALID)});
        cases.push_back({"self_signed", support::self_signed(), "self-signed certificate"});
        cases.push_back({"stranger", other.issue(), "unable to get local issuer certificate"});
        cases.push_back({"revoked", authority.issue({.serial = 77}), "certificate revoked"});
        cases.push_back({"good", authority.issue(), nullptr});

        SslContext context = client_context();
        std::string crl = authority.revoke({77});
        context.load_verify_locations({.cadata = crl});
        context.set_verify_flags(context.verify_flags() | VERIFY_CRL_CHECK_LEAF);
        for (const Case& one : cases) {
            std::vector<std::string> options{"-rev"};
            std::string file = certificates().write(std::string(one.name) + ".pem", one.identity);
            auto listening = co_await s_server(file, options);
            auto outcome = co_await try_await(open_connection(
                "127.0.0.1", listening.port, {.ssl = &context, .server_hostname = "localhost"}));
            if (outcome) {
                EXPECT_FALSE(one.error) << one.name;
                co_await hang_up(outcome.value().writer);
                continue;
            }
            std::string text = error_text(outcome.exception());
            EXPECT_TRUE(one.error && text.starts_with("SslCertVerificationError") &&
                        text.ends_with(": " + std::string(one.error)))
                << one.name << ": " << text;
        }
    }());
}

TEST_P(OpensslPeers, s_client_refuses_coils_bad_certificate_and_the_server_goes_on) {
    run([]() -> Coro<> {
        CoilServer server(server_context());
        co_await server.start();
        std::vector<std::string> options{"-verify_hostname", "wrong.test"};
        auto wrong = co_await s_client(server.port, options);
        options.back() = "localhost";
        EXPECT_NE(co_await wrong.line_with("verify"), "");
        auto refused = co_await wrong.finish();
        EXPECT_NE(refused.exit_code, 0);
        EXPECT_TRUE(server.accepted.empty());
        auto right = co_await s_client(server.port, options);
        auto [reader, writer] = co_await server.accepted.get();
        right.close_input();
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        co_await right.finish();
        co_await server.close();
    }());
}

/// How a peer may end; a clean end is one with a close_notify.
enum class End { CLEAN, SOCKET_CLOSED, KILLED };

TEST_P(OpensslPeers, an_s_server_that_is_cut_off_is_told_from_one_that_says_goodbye) {
    run([]() -> Coro<> {
        for (const char* version : {"-tls1_2", "-tls1_3"}) {
            for (End end : {End::CLEAN, End::SOCKET_CLOSED, End::KILLED}) {
                std::vector<std::string> options{version};
                if (end == End::CLEAN) options.emplace_back("-www");
                auto listening = co_await s_server(certificates().server_file, options);
                SslContext context = client_context();
                auto [reader, writer] =
                    co_await open_connection("127.0.0.1", listening.port, {.ssl = &context});
                if (end == End::CLEAN) {
                    writer.write("GET / HTTP/1.0\r\n\r\n");
                    EXPECT_EQ((co_await reader.read()).substr(0, 12), "HTTP/1.0 200");
                    co_await hang_up(writer);
                    continue;
                }
                listening.process->write("all of it\n");
                EXPECT_EQ(co_await reader.readline(), "all of it\n");
                if (end == End::KILLED) {
                    listening.process->kill(SIGKILL);
                } else {
                    listening.process->write("Q\n");
                }
                EXPECT_EQ(co_await thrown_by_await(reader.read()), CUT_OFF);
                EXPECT_EQ(co_await thrown_by_await(writer.wait_closed()), CUT_OFF);
            }
        }
    }());
}

TEST_P(OpensslPeers, an_s_client_that_is_cut_off_is_told_from_one_that_says_goodbye) {
    run([]() -> Coro<> {
        for (const char* version : {"-tls1_2", "-tls1_3"}) {
            for (End end : {End::CLEAN, End::KILLED}) {
                CoilServer server(server_context());
                co_await server.start();
                std::vector<std::string> options{version};
                auto client = co_await s_client(server.port, options);
                auto [reader, writer] = co_await server.accepted.get();
                client.write("hello\n");
                EXPECT_EQ(co_await reader.readline(), "hello\n");
                if (end == End::KILLED) {
                    client.kill(SIGKILL);
                    EXPECT_EQ(co_await thrown_by_await(reader.read()), CUT_OFF);
                    EXPECT_EQ(co_await thrown_by_await(writer.wait_closed()), CUT_OFF);
                } else {
                    client.close_input();
                    EXPECT_EQ(co_await reader.read(), "");
                    co_await hang_up(writer);
                }
                co_await client.finish();
                co_await server.close();
            }
        }
    }());
}

}  // namespace
