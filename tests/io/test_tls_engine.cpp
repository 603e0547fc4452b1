#include "io/tls_engine.hpp"

#include <gtest/gtest.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "coil/exceptions.hpp"
#include "io/openssl.hpp"
#include "support/errors.hpp"
#include "support/tls.hpp"

using namespace coil;
using detail::TlsEngine;
using Status = detail::TlsEngine::Status;
using support::certificates;
using support::client_context;
using support::server_context;
using support::thrown_by;

namespace {

/// Brings the output of one engine to the other, in pieces; gives what went over.
std::string carry(TlsEngine& from, TlsEngine& to, std::size_t piece = std::string::npos) {
    std::string carried;
    while (!from.output().empty()) {
        std::string part(from.output().substr(0, piece));
        from.drop_output(part.size());
        to.feed(part);
        carried += part;
    }
    return carried;
}

std::string read_all(TlsEngine& engine, Status* end = nullptr, std::size_t at_once = 20000) {
    std::string text, space(at_once, '\0');
    for (;;) {
        auto [size, status] = engine.read(std::as_writable_bytes(std::span(space)));
        text.append(space.data(), size);
        if (status == Status::DONE) continue;
        if (end) *end = status;
        return text;
    }
}

/// Two engines that are connected in memory.
struct Pair {
    explicit Pair(const SslContext& client_side = client_context(),
                  const SslContext& server_side = server_context(), const std::string& name = "localhost",
                  const std::optional<SslSession>& session = {})
        : client(client_side, false, name, session), server(server_side, true) {}

    /// Until both are done; throws what either does.
    void handshake(std::size_t piece = std::string::npos) {
        bool client_done = false, server_done = false;
        for (int round = 0; round < 100 && !(client_done && server_done); ++round) {
            if (!client_done) client_done = client.do_handshake() == Status::DONE;
            carry(client, server, piece);
            if (!server_done) server_done = server.do_handshake() == Status::DONE;
            carry(server, client, piece);
        }
        if (!client_done || !server_done) throw RuntimeError("the handshake does not end");
    }
    std::string to_server(std::string_view text) {
        EXPECT_EQ(client.write(text), Status::DONE);
        carry(client, server);
        return read_all(server);
    }
    std::string to_client(std::string_view text) {
        EXPECT_EQ(server.write(text), Status::DONE);
        carry(server, client);
        return read_all(client);
    }

    TlsEngine client;
    TlsEngine server;
};

/// What the client throws, and then the server.
std::pair<std::string, std::string> refused(Pair& pair) {
    auto [client, server] = std::pair<std::string, std::string>("nothing", "nothing");
    for (int round = 0; round < 10; ++round) {
        if (client == "nothing") client = thrown_by([&] { pair.client.do_handshake(); });
        carry(pair.client, pair.server);
        if (server == "nothing") server = thrown_by([&] { pair.server.do_handshake(); });
        carry(pair.server, pair.client);
    }
    return {client, server};
}

void limit(SslContext& context, TlsVersion version) {
    context.set_minimum_version(version);
    context.set_maximum_version(version);
}

class Versions : public ::testing::TestWithParam<TlsVersion> {
  protected:
    SslContext client() const {
        SslContext context = client_context();
        limit(context, GetParam());
        return context;
    }
    bool old() const { return GetParam() == TlsVersion::TLSv1_2; }
};
INSTANTIATE_TEST_SUITE_P(Tls, Versions, ::testing::Values(TlsVersion::TLSv1_2, TlsVersion::TLSv1_3),
                         [](const auto& version) {
                             return version.param == TlsVersion::TLSv1_2 ? "TLSv1_2" : "TLSv1_3";
                         });

TEST_P(Versions, a_handshake_and_data_both_ways) {
    Pair pair(client());
    EXPECT_EQ(pair.client.object().version(), "");
    EXPECT_FALSE(pair.client.object().cipher());
    pair.handshake();
    EXPECT_EQ(pair.client.object().version(), old() ? "TLSv1.2" : "TLSv1.3");
    EXPECT_EQ(pair.server.object().version(), pair.client.object().version());
    ASSERT_TRUE(pair.client.object().cipher());
    EXPECT_EQ(*pair.client.object().cipher(), *pair.server.object().cipher());
    EXPECT_GE(pair.client.object().cipher()->bits, 128);
    EXPECT_EQ(pair.to_server("hello"), "hello");
    EXPECT_EQ(pair.to_client("and hello"), "and hello");
    EXPECT_EQ(pair.to_client(""), "");
    EXPECT_TRUE(pair.server.object().server_side());
    EXPECT_FALSE(pair.client.object().server_side());
}

TEST_P(Versions, bytes_may_come_one_at_a_time) {
    Pair pair(client());
    pair.handshake(1);
    ASSERT_EQ(pair.client.write("in small pieces"), Status::DONE);
    std::string got, space(100, '\0');
    while (!pair.client.output().empty()) {
        pair.server.feed(pair.client.output().substr(0, 1));
        pair.client.drop_output(1);
        got += read_all(pair.server);
    }
    EXPECT_EQ(got, "in small pieces");
}

TEST_P(Versions, ten_megabytes_both_ways) {
    Pair pair(client());
    pair.handshake();
    std::string data(10 << 20, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 13);
    std::string there, back;
    constexpr std::size_t PIECE = 100'000;
    for (std::size_t at = 0; at < data.size(); at += PIECE) {
        std::string_view part = std::string_view(data).substr(at, PIECE);
        ASSERT_EQ(pair.client.write(part), Status::DONE);
        ASSERT_EQ(pair.server.write(part), Status::DONE);
        carry(pair.client, pair.server, 33'333);
        carry(pair.server, pair.client);
        there += read_all(pair.server);
        back += read_all(pair.client, nullptr, 777);
    }
    EXPECT_TRUE(there == data);
    EXPECT_TRUE(back == data);
}

TEST_P(Versions, close_notify_ends_the_stream_in_order) {
    Pair pair(client());
    pair.handshake();
    ASSERT_EQ(pair.client.write("the last words"), Status::DONE);
    EXPECT_EQ(pair.client.shutdown(), Status::WANT_INPUT);
    EXPECT_EQ(pair.client.shutdown(), Status::WANT_INPUT);
    carry(pair.client, pair.server);
    Status end{};
    EXPECT_EQ(read_all(pair.server, &end), "the last words");
    EXPECT_EQ(end, Status::CLOSED);
    EXPECT_EQ(read_all(pair.server, &end), "");
    EXPECT_EQ(end, Status::CLOSED);
    EXPECT_EQ(pair.server.shutdown(), Status::DONE);
    carry(pair.server, pair.client);
    pair.client.feed_eof();
    EXPECT_EQ(pair.client.shutdown(), Status::DONE);
    EXPECT_EQ(pair.client.shutdown(), Status::DONE);
}

TEST_P(Versions, both_may_close_at_once) {
    Pair pair(client());
    pair.handshake();
    EXPECT_EQ(pair.client.shutdown(), Status::WANT_INPUT);
    EXPECT_EQ(pair.server.shutdown(), Status::WANT_INPUT);
    carry(pair.client, pair.server);
    carry(pair.server, pair.client);
    EXPECT_EQ(pair.client.shutdown(), Status::DONE);
    EXPECT_EQ(pair.server.shutdown(), Status::DONE);
}

TEST_P(Versions, shutdown_drops_data_that_come_before_the_close_notify) {
    Pair pair(client());
    pair.handshake();
    ASSERT_EQ(pair.client.write(std::string(50'000, 'x')), Status::DONE);
    EXPECT_EQ(pair.server.shutdown(), Status::WANT_INPUT);
    carry(pair.client, pair.server);
    EXPECT_EQ(pair.server.shutdown(), Status::WANT_INPUT);
    EXPECT_EQ(pair.client.shutdown(), Status::WANT_INPUT);
    carry(pair.client, pair.server);
    EXPECT_EQ(pair.server.shutdown(), Status::DONE);
}

TEST_P(Versions, writing_after_shutdown_is_an_error) {
    Pair pair(client());
    pair.handshake();
    pair.client.shutdown();
    EXPECT_EQ(thrown_by([&] { pair.client.write("more"); }),
              "SslZeroReturnError: TLS/SSL connection has been closed (EOF)");
}

TEST_P(Versions, a_stream_that_is_cut_off_anywhere_is_no_end) {
    Pair pair(client());
    pair.handshake();
    read_all(pair.client);  // tickets
    SslContext context = client();
    ASSERT_EQ(pair.server.write("one"), Status::DONE);
    ASSERT_EQ(pair.server.write("two"), Status::DONE);
    pair.server.shutdown();
    std::string recorded(pair.server.output());

    // A record can be decrypted once, so each cut needs a connection of its own.
    for (std::size_t cut = 0; cut <= recorded.size(); ++cut) {
        Pair again(context);
        again.handshake();
        ASSERT_EQ(read_all(again.client), "");
        again.server.write("one");
        again.server.write("two");
        again.server.shutdown();
        std::string stream(again.server.output());
        ASSERT_EQ(stream.size(), recorded.size());
        again.client.feed(stream.substr(0, cut));
        again.client.feed_eof();
        std::string got;
        Status end = Status::DONE;
        std::string error = thrown_by([&] {
            std::string space(100, '\0');
            while (end == Status::DONE) {
                auto [size, status] = again.client.read(std::as_writable_bytes(std::span(space)));
                got.append(space.data(), size);
                end = status;
            }
        });
        EXPECT_TRUE(got == "" || got == "one" || got == "onetwo") << got;
        if (cut == recorded.size()) {
            EXPECT_EQ(got, "onetwo");
            EXPECT_EQ(end, Status::CLOSED);
            EXPECT_EQ(error, "nothing");
        } else {
            ASSERT_EQ(
                error,
                "SslEofError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol")
                << "at byte " << cut;
            EXPECT_EQ(thrown_by([&] { again.client.read({}); }), error);
            EXPECT_EQ(thrown_by([&] { again.client.write("x"); }), error);
        }
    }
}

TEST_P(Versions, a_handshake_that_is_cut_off_anywhere_fails) {
    SslContext context = client();
    SslContext serving = server_context();
    Pair whole(context, serving);
    whole.client.do_handshake();
    std::size_t hello = carry(whole.client, whole.server).size();
    whole.server.do_handshake();
    std::size_t answer = carry(whole.server, whole.client).size();
    for (std::size_t cut = 0; cut < hello; cut += 1 + cut / 16) {
        Pair pair(context, serving);
        pair.client.do_handshake();
        pair.server.feed(pair.client.output().substr(0, cut));
        EXPECT_EQ(pair.server.do_handshake(), Status::WANT_INPUT);
        pair.server.feed_eof();
        EXPECT_EQ(thrown_by([&] { pair.server.do_handshake(); }).substr(0, 11), "SslEofError");
    }
    for (std::size_t cut = 0; cut + 100 < answer; cut += 1 + cut / 16) {
        Pair pair(context, serving);
        pair.client.do_handshake();
        carry(pair.client, pair.server);
        pair.server.do_handshake();
        pair.client.feed(pair.server.output().substr(0, cut));
        pair.client.feed_eof();
        EXPECT_EQ(thrown_by([&] { pair.client.do_handshake(); }).substr(0, 11), "SslEofError") << cut;
    }
}

TEST_P(Versions, a_changed_byte_is_found) {
    for (std::size_t at : {0u, 1u, 2u, 5u, 10u, 20u, 25u}) {
        Pair pair(client());
        pair.handshake();
        read_all(pair.client);
        pair.server.write("secret");
        std::string stream(pair.server.output());
        stream[at] = static_cast<char>(stream[at] ^ 1);
        pair.client.feed(stream);
        pair.client.feed_eof();
        EXPECT_EQ(thrown_by([&] { read_all(pair.client); }).substr(0, 3), "Ssl") << at;
    }
}

TEST_P(Versions, a_session_is_resumed) {
    SslContext context = client();
    SslContext serving = server_context();
    std::optional<SslSession> session;
    {
        Pair first(context, serving);
        EXPECT_FALSE(first.client.object().session());
        first.handshake();
        read_all(first.client);
        EXPECT_FALSE(first.client.object().session_reused());
        EXPECT_FALSE(first.server.object().session());
        session = first.client.object().session();
        // No close_notify: the session must stay good.
    }
    ASSERT_TRUE(session);
    EXPECT_TRUE(session->resumable());
    EXPECT_TRUE(session->has_ticket());
    EXPECT_GT(session->timeout().count(), 0);
    EXPECT_GT(session->ticket_lifetime_hint().count(), 0);
    EXPECT_NE(session->id(), "");
    EXPECT_LT(std::chrono::system_clock::now() - session->time(), std::chrono::hours(1));
    for (int i = 0; i < 2; ++i) {
        Pair again(context, serving, "localhost", session);
        again.handshake();
        EXPECT_TRUE(again.client.object().session_reused());
        EXPECT_TRUE(again.server.object().session_reused());
        EXPECT_EQ(again.to_server("resumed"), "resumed");
        EXPECT_TRUE(again.client.object().getpeercert());
    }
    EXPECT_EQ(serving.session_stats().accept_good, 3);
    EXPECT_EQ(serving.session_stats().hits, 2);
    EXPECT_EQ(context.session_stats().connect_good, 3);
    EXPECT_EQ(thrown_by([&] { Pair(client(), serving, "localhost", session); }),
              "ValueError: Session refers to a different SSLContext.");
}

TEST_P(Versions, a_session_is_resumed_from_the_servers_cache) {
    if (!old()) GTEST_SKIP() << "TLS 1.3 has tickets only";
    SslContext context = client();
    SslContext serving = server_context();
    serving.set_options(serving.options() | OP_NO_TICKET);
    Pair first(context, serving);
    first.handshake();
    auto session = first.client.object().session();
    ASSERT_TRUE(session);
    EXPECT_FALSE(session->has_ticket());
    EXPECT_EQ(serving.session_stats().number, 1);
    Pair again(context, serving, "localhost", session);
    again.handshake();
    EXPECT_TRUE(again.client.object().session_reused());
}

TEST_P(Versions, an_unusable_session_leads_to_a_whole_handshake) {
    SslContext context = client();
    Pair first(context, server_context());
    first.handshake();
    read_all(first.client);
    Pair again(context, server_context(), "localhost", first.client.object().session());
    again.handshake();
    EXPECT_FALSE(again.client.object().session_reused());
}

TEST_P(Versions, a_client_shows_its_certificate) {
    SslContext serving = server_context();
    serving.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
    serving.load_verify_locations({.cafile = certificates().ca_file});
    SslContext context = client();
    context.load_cert_chain(certificates().write(
        "client.pem", certificates().authority.issue({.name = "a client", .alt_names = {}})));
    Pair pair(context, serving);
    pair.handshake();
    EXPECT_EQ(pair.to_server("it is me"), "it is me");
    auto certificate = pair.server.object().getpeercert();
    ASSERT_TRUE(certificate);
    EXPECT_EQ(certificate->subject(), (SslCertificate::Name{{"commonName", "a client"}}));

    // And is refused without; with TLS 1.3 it learns so after its handshake.
    Pair nameless(client(), serving);
    auto [client_error, server_error] = refused(nameless);
    EXPECT_EQ(server_error,
              "SslError: [SSL: PEER_DID_NOT_RETURN_A_CERTIFICATE] peer did not return a certificate");
    if (old()) {
        EXPECT_EQ(client_error, support::ssl_error(SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE));
    } else {
        EXPECT_EQ(client_error, "nothing");
        EXPECT_EQ(thrown_by([&] { read_all(nameless.client); }),
                  "SslError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required");
    }

    serving.set_verify_mode(SslVerifyMode::CERT_OPTIONAL);
    Pair optional(client(), serving);
    optional.handshake();
    EXPECT_FALSE(optional.server.object().getpeercert());
}

TEST_P(Versions, a_resumed_session_keeps_the_clients_certificate) {
    SslContext serving = server_context();
    serving.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
    serving.load_verify_locations({.cafile = certificates().ca_file});
    SslContext context = client();
    context.load_cert_chain(certificates().write("client2.pem", certificates().authority.issue()));
    Pair first(context, serving);
    first.handshake();
    read_all(first.client);
    Pair again(context, serving, "localhost", first.client.object().session());
    again.handshake();
    EXPECT_TRUE(again.server.object().session_reused());
    EXPECT_TRUE(again.server.object().getpeercert());
}

TEST_P(Versions, renegotiation_is_refused) {
    if (!old()) GTEST_SKIP() << "TLS 1.3 has none";
    // Our own clients never ask; this one does.
    SslContext eager = client();
    eager.set_options(static_cast<SslOptions>(eager.options() & ~std::uint64_t{OP_NO_RENEGOTIATION}));
    SslContext serving = server_context();
    Pair pair(eager, serving);
    pair.handshake();
    SSL* ssl = pair.client.object().state()->ssl.get();
    ASSERT_EQ(SSL_renegotiate(ssl), 1);
    SSL_do_handshake(ssl);
    carry(pair.client, pair.server);
    EXPECT_EQ(read_all(pair.server), "");  // refuses by a warning, and goes on
    EXPECT_FALSE(pair.server.output().empty());
    carry(pair.server, pair.client);
    EXPECT_EQ(thrown_by([&] { read_all(pair.client); }),
              "SslError: [SSL: NO_RENEGOTIATION] no renegotiation");
    EXPECT_EQ(serving.session_stats().accept_good, 1);
}

// ---- what does not depend on the version

TEST(TlsEngines, alpn_follows_the_servers_order) {
    SslContext context = client_context();
    context.set_alpn_protocols({"http/1.1", "h2"});
    SslContext serving = server_context();
    serving.set_alpn_protocols({"h3", "h2", "http/1.1"});
    Pair pair(context, serving);
    pair.handshake();
    EXPECT_EQ(pair.client.object().selected_alpn_protocol(), "h2");
    EXPECT_EQ(pair.server.object().selected_alpn_protocol(), "h2");

    serving.set_alpn_protocols({"smtp"});
    Pair strangers(context, serving);
    strangers.handshake();
    EXPECT_EQ(strangers.client.object().selected_alpn_protocol(), "");
}

TEST(TlsEngines, a_servername_callback_changes_the_context) {
    SslContext other = server_context(certificates().write(
        "other.pem", certificates().authority.issue({.name = "other", .alt_names = {"DNS:other.test"}})));
    other.set_alpn_protocols({"other"});
    SslContext serving = server_context();
    serving.set_alpn_protocols({"first"});
    std::vector<std::string> asked;
    serving.set_servername_callback(
        [&](SslObject& object, const std::string& name, const SslContext& context) -> std::optional<int> {
            asked.push_back(name);
            EXPECT_EQ(context, serving);
            EXPECT_TRUE(object.server_side());
            if (name == "other.test") object.set_context(other);
            if (name == "refused.test") return SSL_AD_UNRECOGNIZED_NAME;
            if (name == "bad.test") throw RuntimeError("no such name");
            return {};
        });
    SslContext context = client_context();
    context.set_alpn_protocols({"first", "other"});

    Pair pair(context, serving, "other.test");
    pair.handshake();
    EXPECT_EQ(pair.client.object().selected_alpn_protocol(), "other");
    EXPECT_EQ(pair.server.object().server_hostname(), "other.test");
    EXPECT_EQ(pair.server.object().context(), other);
    Pair first(context, serving);
    first.handshake();
    EXPECT_EQ(first.client.object().selected_alpn_protocol(), "first");

    Pair refusal(context, serving, "refused.test");
    auto [client_error, server_error] = refused(refusal);
    EXPECT_EQ(client_error, "SslError: [SSL: TLSV1_UNRECOGNIZED_NAME] tlsv1 unrecognized name");
    EXPECT_EQ(server_error, "SslError: [SSL: CALLBACK_FAILED] callback failed");

    Pair failure(context, serving, "bad.test");
    auto errors = refused(failure);
    EXPECT_EQ(errors.second, "RuntimeError: no such name");
    EXPECT_EQ(errors.first, support::ssl_error(SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE));

    context.set_check_hostname(false);
    Pair nameless(context, serving, "");
    nameless.handshake();
    EXPECT_EQ(asked, (std::vector<std::string>{"other.test", "localhost", "refused.test", "bad.test", ""}));

    serving.set_servername_callback({});
    Pair after(context, serving, "other.test");
    after.handshake();
    EXPECT_EQ(asked.size(), 5u);
    EXPECT_EQ(after.server.object().server_hostname(), "other.test");
}

TEST(TlsEngines, the_other_context_may_want_a_clients_certificate) {
    SslContext strict = server_context();
    strict.set_verify_mode(SslVerifyMode::CERT_REQUIRED);
    strict.load_verify_locations({.cafile = certificates().ca_file});
    SslContext serving = server_context();
    serving.set_servername_callback([&](SslObject& object, const std::string&, const SslContext&) {
        object.set_context(strict);
        return std::nullopt;
    });
    Pair pair(client_context(), serving);
    EXPECT_EQ(refused(pair).second,
              "SslError: [SSL: PEER_DID_NOT_RETURN_A_CERTIFICATE] peer did not return a certificate");
}

std::string verification(const support::Identity& identity, const std::string& name = "localhost",
                         SslContext context = client_context()) {
    Pair pair(context, server_context(certificates().write("verified.pem", identity)), name);
    auto [client, server] = refused(pair);
    constexpr std::string_view PREFIX =
        "SslCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: ";
    if (client.starts_with(PREFIX)) {
        EXPECT_EQ(server.substr(0, 14), "SslError: [SSL") << server;  // the alert
        return client.substr(PREFIX.size());
    }
    return client;
}

TEST(TlsEngines, a_certificate_is_verified) {
    auto& authority = certificates().authority;
    EXPECT_EQ(verification(authority.issue()), "nothing");
    EXPECT_EQ(verification(authority.issue(), "127.0.0.1"), "nothing");
    EXPECT_EQ(verification(authority.issue({.alt_names = {"DNS:*.example.test"}}), "www.example.test"),
              "nothing");
    EXPECT_EQ(verification(authority.issue(), "wrong.test"),
              "Hostname mismatch, certificate is not valid for 'wrong.test'.");
    EXPECT_EQ(verification(authority.issue({.alt_names = {"DNS:w*.example.test"}}), "www.example.test"),
              "Hostname mismatch, certificate is not valid for 'www.example.test'.");
    EXPECT_EQ(verification(authority.issue(), "127.0.0.2"),
              "IP address mismatch, certificate is not valid for '127.0.0.2'.");
    EXPECT_EQ(verification(authority.issue({.valid_from = -7200, .valid_until = -3600})),
              "certificate has expired");
    EXPECT_EQ(verification(authority.issue({.valid_from = 3600})),
              X509_verify_cert_error_string(X509_V_ERR_CERT_NOT_YET_VALID));  // newer ones say more
    EXPECT_EQ(verification(support::self_signed()), "self-signed certificate");
    EXPECT_EQ(verification(support::Authority("a stranger").issue()),
              "unable to get local issuer certificate");
}

TEST(TlsEngines, nothing_is_verified_where_nobody_wants_it) {
    SslContext context = client_context();
    context.set_check_hostname(false);
    EXPECT_EQ(verification(certificates().authority.issue(), "wrong.test", context), "nothing");
    context.set_verify_mode(SslVerifyMode::CERT_NONE);
    EXPECT_EQ(verification(support::self_signed(), "wrong.test", context), "nothing");
}

TEST(TlsEngines, a_revoked_certificate_is_refused) {
    auto& authority = certificates().authority;
    std::string list = certificates().directory.write("revoked.pem", authority.revoke({77}));
    for (bool file : {true, false}) {
        SslContext context = client_context();
        context.set_verify_flags(context.verify_flags() | VERIFY_CRL_CHECK_LEAF);
        EXPECT_EQ(verification(authority.issue({.serial = 78}), "localhost", context),
                  "unable to get certificate CRL");
        file ? context.load_verify_locations({.cafile = list})
             : context.load_verify_locations({.cadata = authority.revoke({77})});
        EXPECT_EQ(verification(authority.issue({.serial = 78}), "localhost", context), "nothing");
        EXPECT_EQ(verification(authority.issue({.serial = 77}), "localhost", context), "certificate revoked");
    }
}

TEST(TlsEngines, the_error_of_a_verification_has_its_number) {
    Pair pair(client_context(), server_context(), "wrong.test");
    pair.client.do_handshake();
    carry(pair.client, pair.server);
    pair.server.do_handshake();
    carry(pair.server, pair.client);
    try {
        pair.client.do_handshake();
        FAIL();
    } catch (const SslCertVerificationError& error) {
        EXPECT_EQ(error.verify_code(), X509_V_ERR_HOSTNAME_MISMATCH);
        EXPECT_EQ(error.verify_message(), "Hostname mismatch, certificate is not valid for 'wrong.test'.");
        EXPECT_EQ(error.reason(), "CERTIFICATE_VERIFY_FAILED");
    }
    EXPECT_FALSE(pair.client.output().empty());  // the alert
}

TEST(TlsEngines, the_peers_certificate_can_be_read) {
    support::Identity identity = certificates().authority.issue(
        {.name = "www.example.test",
         .alt_names = {"DNS:localhost", "IP:10.1.2.3", "IP:fe80::1", "email:a@b.test", "URI:http://b.test/"},
         .serial = 0xabcdef});
    Pair pair(client_context(), server_context(certificates().write("read.pem", identity)));
    EXPECT_FALSE(pair.client.object().getpeercert());
    pair.handshake();
    auto certificate = pair.client.object().getpeercert();
    ASSERT_TRUE(certificate);
    EXPECT_EQ(certificate->subject(), (SslCertificate::Name{{"commonName", "www.example.test"}}));
    EXPECT_EQ(certificate->issuer(), (SslCertificate::Name{{"commonName", "coil test authority"}}));
    EXPECT_EQ(certificate->serial_number(), "ABCDEF");
    using Names = std::vector<std::pair<std::string, std::string>>;
    EXPECT_EQ(certificate->subject_alt_name(), (Names{{"DNS", "localhost"},
                                                      {"IP Address", "10.1.2.3"},
                                                      {"IP Address", "fe80::1"},
                                                      {"email", "a@b.test"},
                                                      {"URI", "http://b.test/"}}));
    auto now = std::chrono::system_clock::now();
    EXPECT_LT(certificate->not_before(), now);
    EXPECT_GT(certificate->not_after(), now);
    EXPECT_EQ(certificate->der().substr(0, 1), "\x30");
    EXPECT_FALSE(pair.server.object().getpeercert());
}

TEST(TlsEngines, an_object_outlives_its_engine) {
    std::optional<SslObject> object;
    {
        Pair pair;
        pair.handshake();
        object = pair.client.object();
    }
    EXPECT_EQ(object->version(), "TLSv1.3");
    EXPECT_EQ(object->server_hostname(), "localhost");
    EXPECT_TRUE(object->getpeercert());
    EXPECT_EQ(object->pending(), 0u);
}

TEST(TlsEngines, garbage_is_no_handshake) {
    TlsEngine server(server_context(), true);
    server.feed("GET / HTTP/1.1\r\n\r\n");
    EXPECT_EQ(thrown_by([&] { server.do_handshake(); }), "SslError: [SSL: HTTP_REQUEST] http request");
    TlsEngine client(client_context(), false, "localhost");
    EXPECT_EQ(client.do_handshake(), Status::WANT_INPUT);
    client.feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    EXPECT_EQ(thrown_by([&] { client.do_handshake(); }),
              "SslError: [SSL: WRONG_VERSION_NUMBER] wrong version number");
    EXPECT_EQ(thrown_by([&] { client.shutdown(); }),
              "SslError: [SSL: WRONG_VERSION_NUMBER] wrong version number");
}

TEST(TlsEngines, versions_must_meet) {
    SslContext context = client_context();
    limit(context, TlsVersion::TLSv1_2);
    SslContext serving = server_context();
    limit(serving, TlsVersion::TLSv1_3);
    Pair pair(context, serving);
    auto [client, server] = refused(pair);
    EXPECT_EQ(server, "SslError: [SSL: UNSUPPORTED_PROTOCOL] unsupported protocol");
    EXPECT_EQ(client, "SslError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version");
}

TEST(TlsEngines, a_close_notify_is_no_handshake) {
    TlsEngine client(client_context(), false, "localhost");
    client.do_handshake();
    client.feed(std::string("\x15\x03\x03\x00\x02\x01\x00", 7));
    EXPECT_EQ(thrown_by([&] { client.do_handshake(); }).substr(0, 11), "SslEofError");
}

TEST(TlsEngines, before_the_handshake_nothing_is_written) {
    TlsEngine client(client_context(), false, "localhost");
    EXPECT_EQ(client.write("too early"), Status::WANT_INPUT);
    EXPECT_EQ(client.write(""), Status::DONE);
    EXPECT_EQ(thrown_by([&] { client.shutdown(); }),
              "SslError: [SSL: SHUTDOWN_WHILE_IN_INIT] shutdown while in init");
}

TEST(TlsEngines, arguments_are_checked) {
    auto make = [](SslContext context, bool server, const std::string& name) {
        return thrown_by([&] { TlsEngine(context, server, name); });
    };
    EXPECT_EQ(make(client_context(), false, ""), "ValueError: check_hostname requires server_hostname");
    EXPECT_EQ(make(client_context(), false, ".test"),
              "ValueError: server_hostname cannot be an empty string or start with a leading dot.");
    EXPECT_EQ(make(client_context(), false, std::string("a\0b", 3)), "ValueError: embedded null character");
    EXPECT_EQ(make(client_context(), false,
                   "b\xc3\xbc"
                   "cher.test"),
              "ValueError: server_hostname must be ASCII: give the xn-- form of an international name");
    EXPECT_EQ(make(client_context(), true, ""),
              "SslError: Cannot create a server socket with a PROTOCOL_TLS_CLIENT context");
    EXPECT_EQ(make(server_context(), false, ""),
              "SslError: Cannot create a client socket with a PROTOCOL_TLS_SERVER context");
    EXPECT_EQ(make(server_context(), true, "localhost"),
              "ValueError: server_hostname can only be specified in client mode");
}

TEST(TlsEngines, input_may_be_lent) {
    Pair pair;
    pair.handshake();
    read_all(pair.client);
    pair.server.write(std::string(40'000, 'a'));
    std::string stream(pair.server.output());
    std::string got;
    {
        std::string lent = stream;
        TlsEngine::Lent lending(pair.client, lent);
        std::string space(100, '\0');
        auto [size, status] = pair.client.read(std::as_writable_bytes(std::span(space)));
        EXPECT_EQ(size, 100u);
        EXPECT_EQ(status, Status::DONE);
        got = space;
        EXPECT_GT(pair.client.unread(), 0u);
    }
    got += read_all(pair.client);
    EXPECT_EQ(pair.client.unread(), 0u);
    EXPECT_TRUE(got == std::string(40'000, 'a'));
}

TEST(TlsEngines, keys_are_logged) {
    std::string path = certificates().directory.path("keylog.txt");
    SslContext context = client_context();
    context.set_keylog_filename(path);
    Pair pair(context);
    pair.handshake();
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    EXPECT_NE(text.str().find("CLIENT_TRAFFIC_SECRET_0 "), std::string::npos);
    EXPECT_EQ(text.str().back(), '\n');
}

TEST(TlsEngines, errors_of_one_engine_do_not_reach_another) {
    Pair good;
    good.handshake();
    TlsEngine bad(server_context(), true);
    bad.feed("garbage that is no TLS at all");
    EXPECT_NE(thrown_by([&] { bad.do_handshake(); }), "nothing");
    ERR_put_error(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH, "", 0);  // somebody else's
    EXPECT_EQ(good.to_server("unharmed"), "unharmed");
    EXPECT_EQ(good.to_client("unharmed"), "unharmed");
}

}  // namespace
