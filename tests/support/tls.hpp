#pragma once

// A pair of contexts that accept each other, for tests of TLS.

#include <openssl/err.h>
#include <openssl/sslerr.h>

#include <cctype>
#include <string>

#include "coil/ssl.hpp"
#include "support/certificates.hpp"

namespace support {

/// What error_text() gives for a reason of <openssl/sslerr.h>: its name and text differ between OpenSSL's versions.
inline std::string ssl_error(int reason) {
    std::string text = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
    std::string name = text;
    for (char& c : name) c = c == ' ' || c == '/' ? '_' : static_cast<char>(std::toupper(c));
    return "SslError: [SSL: " + name + "] " + text;
}

/// The reason for a record that is none. What comes first in OpenSSL's queue counts.
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
inline constexpr int REASON_OF_GARBAGE = SSL_R_RECORD_LAYER_FAILURE;
#else
inline constexpr int REASON_OF_GARBAGE = SSL_R_WRONG_VERSION_NUMBER;
#endif

/// An authority, a server's certificate for "localhost" and 127.0.0.1, and files with them. One for the process: making keys
/// takes time.
struct Certificates {
    Authority authority;
    TemporaryDirectory directory;
    std::string ca_file = directory.write("ca.pem", authority.certificate());
    std::string server_file = write("server.pem", authority.issue());

    /// A file with certificate and key.
    std::string write(const std::string& name, const Identity& identity) const {
        return directory.write(name, identity.certificate + identity.key);
    }
};

inline Certificates& certificates() {
    static Certificates made;
    return made;
}

inline coil::SslContext server_context(const std::string& file = certificates().server_file) {
    coil::SslContext context = coil::create_default_context(coil::SslPurpose::CLIENT_AUTH);
    context.load_cert_chain(file);
    return context;
}

inline coil::SslContext client_context() {
    return coil::create_default_context(coil::SslPurpose::SERVER_AUTH, {.cafile = certificates().ca_file});
}

}  // namespace support
