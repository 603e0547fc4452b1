#pragma once

// A pair of contexts that accept each other, for tests of TLS.

#include <string>

#include "coil/ssl.hpp"
#include "support/certificates.hpp"

namespace support {

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
