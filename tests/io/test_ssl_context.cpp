#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "coil/ssl.hpp"
#include "support/errors.hpp"
#include "support/tls.hpp"

using namespace coil;
using support::certificates;
using support::thrown_by;

namespace {

TEST(SslContexts, the_default_for_a_client_is_safe) {
    SslContext context = create_default_context();
    EXPECT_EQ(context.protocol(), SslProtocol::TLS_CLIENT);
    EXPECT_EQ(context.verify_mode(), SslVerifyMode::CERT_REQUIRED);
    EXPECT_TRUE(context.check_hostname());
    EXPECT_EQ(context.minimum_version(), TlsVersion::TLSv1_2);
    EXPECT_EQ(context.maximum_version(), TlsVersion::MAXIMUM_SUPPORTED);
    EXPECT_TRUE(context.options() & OP_NO_COMPRESSION);
    EXPECT_TRUE(context.options() & OP_NO_RENEGOTIATION);
    EXPECT_TRUE(context.verify_flags() & VERIFY_X509_STRICT);
    EXPECT_TRUE(context.verify_flags() & VERIFY_X509_PARTIAL_CHAIN);
    EXPECT_TRUE(context.verify_flags() & VERIFY_X509_TRUSTED_FIRST);
}

TEST(SslContexts, the_default_for_a_server_asks_for_no_certificate) {
    SslContext context = create_default_context(SslPurpose::CLIENT_AUTH);
    EXPECT_EQ(context.protocol(), SslProtocol::TLS_SERVER);
    EXPECT_EQ(context.verify_mode(), SslVerifyMode::CERT_NONE);
    EXPECT_FALSE(context.check_hostname());
    EXPECT_TRUE(context.options() & OP_CIPHER_SERVER_PREFERENCE);
}

TEST(SslContexts, checking_names_needs_certificates) {
    SslContext context(SslProtocol::TLS_CLIENT);
    EXPECT_EQ(thrown_by([&] { context.set_verify_mode(SslVerifyMode::CERT_NONE); }),
              "ValueError: Cannot set verify_mode to CERT_NONE when check_hostname is enabled.");
    context.set_check_hostname(false);
    context.set_verify_mode(SslVerifyMode::CERT_NONE);
    EXPECT_EQ(context.verify_mode(), SslVerifyMode::CERT_NONE);
    context.set_check_hostname(true);
    EXPECT_EQ(context.verify_mode(), SslVerifyMode::CERT_REQUIRED);
    context.set_verify_mode(SslVerifyMode::CERT_OPTIONAL);
    EXPECT_EQ(context.verify_mode(), SslVerifyMode::CERT_OPTIONAL);
}

TEST(SslContexts, a_copy_is_the_same_context) {
    SslContext context(SslProtocol::TLS_SERVER);
    SslContext copy = context;
    copy.set_maximum_version(TlsVersion::TLSv1_2);
    EXPECT_EQ(context.maximum_version(), TlsVersion::TLSv1_2);
    EXPECT_EQ(context, copy);
    EXPECT_FALSE(context == SslContext(SslProtocol::TLS_SERVER));
}

TEST(SslContexts, versions_and_options_and_flags_are_kept) {
    SslContext context(SslProtocol::TLS_SERVER);
    context.set_minimum_version(TlsVersion::TLSv1_3);
    EXPECT_EQ(context.minimum_version(), TlsVersion::TLSv1_3);
    context.set_minimum_version(TlsVersion::MINIMUM_SUPPORTED);
    EXPECT_EQ(context.minimum_version(), TlsVersion::MINIMUM_SUPPORTED);
    context.set_options(context.options() | OP_NO_TICKET);
    EXPECT_TRUE(context.options() & OP_NO_TICKET);
    context.set_options(static_cast<SslOptions>(context.options() & ~std::uint64_t{OP_NO_TICKET}));
    EXPECT_FALSE(context.options() & OP_NO_TICKET);
    context.set_verify_flags(VERIFY_CRL_CHECK_LEAF | VERIFY_X509_STRICT);
    EXPECT_EQ(context.verify_flags(), VERIFY_CRL_CHECK_LEAF | VERIFY_X509_STRICT);
    context.set_num_tickets(0);
    EXPECT_EQ(context.num_tickets(), 0);
    EXPECT_EQ(thrown_by([&] { context.set_num_tickets(-1); }), "ValueError: value must be non-negative");
}

TEST(SslContexts, ciphers_are_chosen_by_name) {
    SslContext context(SslProtocol::TLS_CLIENT);
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256");
    bool found = false;
    for (const SslCipher& cipher : context.get_ciphers())
        found = found || cipher == SslCipher{"ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", 128};
    EXPECT_TRUE(found);
    EXPECT_EQ(thrown_by([&] { context.set_ciphers("NOTHING"); }), "SslError: No cipher can be selected.");
}

TEST(SslContexts, alpn_names_have_1_to_255_bytes) {
    SslContext context(SslProtocol::TLS_CLIENT);
    for (const std::string& name : {std::string(), std::string(256, 'x')}) {
        std::vector<std::string> names{"h2", name};
        EXPECT_EQ(thrown_by([&] { context.set_alpn_protocols(names); }),
                  "SslError: ALPN protocols must be 1 to 255 in length");
    }
    context.set_alpn_protocols({"h2", std::string(255, 'x')});
    context.set_alpn_protocols({});
}

TEST(SslContexts, a_chain_is_loaded_from_one_file_or_two) {
    support::Identity identity = certificates().authority.issue();
    const auto& directory = certificates().directory;
    std::string certificate = directory.write("alone.pem", identity.certificate);
    std::string key = directory.write("alone.key", identity.key);
    SslContext context(SslProtocol::TLS_SERVER);
    context.load_cert_chain(certificate, key);
    context.load_cert_chain(certificates().server_file);
}

TEST(SslContexts, what_cannot_be_loaded_is_an_error) {
    SslContext context(SslProtocol::TLS_SERVER);
    const auto& directory = certificates().directory;
    std::string missing = directory.path("missing.pem");
    std::string text = "[Errno 2] No such file or directory: '" + missing + "'";
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(missing); }), "FileNotFoundError: " + text);
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(certificates().server_file, missing); }),
              "FileNotFoundError: " + text);
    EXPECT_EQ(thrown_by([&] { context.load_verify_locations({.cafile = missing}); }),
              "FileNotFoundError: " + text);
    EXPECT_EQ(thrown_by([&] { context.load_verify_locations({}); }),
              "TypeError: cafile, capath and cadata cannot be all omitted");

    std::string nonsense = directory.write("nonsense.pem", "nonsense\n");
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(nonsense); }), "SslError: [SSL] PEM lib");
    std::string other_key = directory.write("other.key", certificates().authority.issue().key);
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(certificates().server_file, other_key); }),
              "SslError: [X509: KEY_VALUES_MISMATCH] key values mismatch");
    EXPECT_EQ(
        thrown_by([&] { context.load_verify_locations({.cadata = "-----BEGIN NOTHING-----"}); }).substr(0, 9),
        "SslError:");
    EXPECT_EQ(thrown_by([&] { context.load_verify_locations({.cadata = "\x30\x03nonsense"}); }).substr(0, 15),
              "SslError: [ASN1");
    try {
        context.load_cert_chain(nonsense);
    } catch (const SslError& error) {
        EXPECT_EQ(error.library(), "SSL");
        EXPECT_EQ(error.reason(), "");
        EXPECT_EQ(error.code().value(), 0);
    }
}

TEST(SslContexts, a_key_may_have_a_password) {
    support::Identity identity = certificates().authority.issue();
    const auto& directory = certificates().directory;
    std::string certificate = directory.write("locked.pem", identity.certificate);
    std::string key = directory.write("locked.key", support::with_password(identity.key, "secret"));
    SslContext context(SslProtocol::TLS_SERVER);
    context.load_cert_chain(certificate, key, "secret");
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(certificate, key, "wrong"); }).substr(0, 9),
              "SslError:");
    // And does not ask at the terminal.
    EXPECT_EQ(thrown_by([&] { context.load_cert_chain(certificate, key); }).substr(0, 9), "SslError:");
}

TEST(SslContexts, authorities_come_from_a_file_or_from_memory) {
    for (bool file : {true, false}) {
        SslContext context(SslProtocol::TLS_CLIENT);
        EXPECT_TRUE(context.get_ca_certs().empty());
        const std::string& pem = certificates().authority.certificate();
        file ? context.load_verify_locations({.cafile = certificates().ca_file})
             : context.load_verify_locations({.cadata = pem});
        auto loaded = context.get_ca_certs();
        ASSERT_EQ(loaded.size(), 1u);
        const SslCertificate& authority = loaded.front();
        SslCertificate::Name name{{"commonName", "coil test authority"}};
        EXPECT_EQ(authority.subject(), name);
        EXPECT_EQ(authority.issuer(), name);
        EXPECT_EQ(authority.serial_number(), "01");
        EXPECT_EQ(authority.version(), 3);
        EXPECT_EQ(authority.not_after() - authority.not_before(), std::chrono::hours(25));

        SslContext from_der(SslProtocol::TLS_CLIENT);
        from_der.load_verify_locations({.cadata = authority.der()});
        ASSERT_EQ(from_der.get_ca_certs().size(), 1u);
        EXPECT_EQ(from_der.get_ca_certs().front().der(), authority.der());
    }
}

TEST(SslContexts, a_keylog_that_cannot_be_opened_is_an_error) {
    SslContext context(SslProtocol::TLS_CLIENT);
    EXPECT_EQ(context.keylog_filename(), "");
    EXPECT_EQ(thrown_by([&] { context.set_keylog_filename("/nowhere/at/all"); }),
              "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all'");
    std::string path = certificates().directory.path("keys.log");
    context.set_keylog_filename(path);
    EXPECT_EQ(context.keylog_filename(), path);
    context.set_keylog_filename("");
    EXPECT_EQ(context.keylog_filename(), "");
}

TEST(SslErrors, may_be_copied_and_say_what_they_are) {
    SslCertVerificationError error(10, "certificate has expired");
    SslCertVerificationError copy = error;
    EXPECT_STREQ(copy.what(),
                 "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired");
    EXPECT_EQ(copy.verify_code(), 10);
    EXPECT_EQ(copy.verify_message(), "certificate has expired");
    EXPECT_EQ(copy.library(), "SSL");
    EXPECT_EQ(copy.reason(), "CERTIFICATE_VERIFY_FAILED");
    EXPECT_STREQ(SslEofError().what(),
                 "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol");
    static_assert(std::is_base_of_v<OSError, SslError>);
}

}  // namespace
