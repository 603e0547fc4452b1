#pragma once

// TLS: what a connection may do (SslContext), and what one did (SslObject, SslCertificate, SslSession). Python's module ssl;
// the connections themselves are made by `open_connection(host, port, {.ssl = &context})` and its relatives.
//
// All four are handles: a copy means the same thing. OpenSSL does the work; none of its types are seen here.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/fwd.hpp"

namespace coil {

namespace detail {
struct SslContextState;
struct SslObjectState;
struct SslSessionState;
struct SslCertificateState;
class TlsEngine;
}  // namespace detail

class SslContext;

/// Which side of the connection a context is for.
enum class SslProtocol { TLS_CLIENT, TLS_SERVER };

/// Whom a context is to recognise: SERVER_AUTH is for clients, CLIENT_AUTH for servers.
enum class SslPurpose { SERVER_AUTH, CLIENT_AUTH };

/// On a server, CERT_OPTIONAL asks the client for a certificate and takes none for an answer. On a client it is CERT_REQUIRED.
enum class SslVerifyMode { CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED };

enum class TlsVersion { MINIMUM_SUPPORTED, TLSv1, TLSv1_1, TLSv1_2, TLSv1_3, MAXIMUM_SUPPORTED };

/// May be combined by `|`.
enum SslVerifyFlags : std::uint32_t {
    VERIFY_DEFAULT = 0,
    VERIFY_CRL_CHECK_LEAF = 0x4,  // a revocation list must be loaded for the issuer of the peer's certificate
    VERIFY_CRL_CHECK_CHAIN = 0xc,  // and for all issuers above
    VERIFY_X509_STRICT = 0x20,
    VERIFY_ALLOW_PROXY_CERTS = 0x40,
    VERIFY_X509_TRUSTED_FIRST = 0x8000,
    VERIFY_X509_PARTIAL_CHAIN = 0x80000,  // a trusted certificate need not be a root
};

/// May be combined by `|`.
enum SslOptions : std::uint64_t {
    OP_ENABLE_KTLS = 0x8,
    OP_NO_TICKET = 0x4000,
    OP_NO_COMPRESSION = 0x20000,
    OP_CIPHER_SERVER_PREFERENCE = 0x400000,
    OP_NO_TLSv1_2 = 0x8000000,
    OP_NO_TLSv1_3 = 0x20000000,
    OP_NO_RENEGOTIATION = 0x40000000,
};

struct SslCipher {
    std::string name;      // "TLS_AES_256_GCM_SHA384"
    std::string protocol;  // the version that introduced it: "TLSv1.3"
    int bits = 0;

    friend bool operator==(const SslCipher&, const SslCipher&) = default;
};

/// What a server has done with sessions, and a client.
struct SslSessionStats {
    long number = 0;  // in the cache
    long connect = 0;
    long connect_good = 0;
    long connect_renegotiate = 0;
    long accept = 0;
    long accept_good = 0;
    long accept_renegotiate = 0;
    long hits = 0;
    long misses = 0;
    long timeouts = 0;
    long cache_full = 0;
};

class SslCertificate {
  public:
    /// In order: {{"countryName", "XY"}, {"commonName", "example.org"}}.
    using Name = std::vector<std::pair<std::string, std::string>>;

    Name subject() const;
    Name issuer() const;
    std::chrono::sys_seconds not_before() const;
    std::chrono::sys_seconds not_after() const;
    /// Hexadecimal, in capitals.
    std::string serial_number() const;
    int version() const;
    /// {{"DNS", "example.org"}, {"IP Address", "127.0.0.1"}}; also "email", "URI".
    std::vector<std::pair<std::string, std::string>> subject_alt_name() const;
    /// The certificate itself, in DER.
    std::string der() const;
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For coil's own layers.
    explicit SslCertificate(std::shared_ptr<detail::SslCertificateState> state) noexcept
        : state_(std::move(state)) {}

  private:
    std::shared_ptr<detail::SslCertificateState> state_;
};

/// What a client may resume a connection with: cheaper than a new handshake, and without certificates.
class SslSession {
  public:
    std::string id() const;
    std::chrono::sys_seconds time() const;
    std::chrono::seconds timeout() const;
    bool has_ticket() const;
    std::chrono::seconds ticket_lifetime_hint() const;
    /// False for the session of a TLS 1.3 connection on which no ticket has arrived yet.
    bool resumable() const;
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For coil's own layers.
    explicit SslSession(std::shared_ptr<detail::SslSessionState> state) noexcept : state_(std::move(state)) {}
    const std::shared_ptr<detail::SslSessionState>& state() const noexcept { return state_; }

  private:
    std::shared_ptr<detail::SslSessionState> state_;
};

/// A connection's TLS, as `get_extra_info("ssl_object")` gives it: to be asked, not to be driven. It stays good when the
/// connection is gone. Of the loop's thread only.
class SslObject {
  public:
    /// "TLSv1.3"; empty before the handshake.
    std::string version() const;
    std::optional<SslCipher> cipher() const;
    /// Empty if none was agreed on.
    std::string selected_alpn_protocol() const;
    /// Nothing if the peer has shown none. With CERT_NONE it was not verified: then it proves nothing.
    std::optional<SslCertificate> getpeercert() const;
    /// What a client asked for; on a server what the client asked for. May be empty.
    std::string server_hostname() const;
    bool server_side() const;
    /// Decrypted bytes that have not been read yet.
    std::size_t pending() const;
    /// Nothing on a server, and before the handshake. With TLS 1.3 its tickets come behind the handshake: ask after reading.
    std::optional<SslSession> session() const;
    bool session_reused() const;
    SslContext context() const;
    /// In a servername callback: goes on with another context's certificates, verification and protocols.
    void set_context(const SslContext& context);
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For coil's own layers.
    explicit SslObject(std::shared_ptr<detail::SslObjectState> state) noexcept : state_(std::move(state)) {}
    const std::shared_ptr<detail::SslObjectState>& state() const noexcept { return state_; }

  private:
    std::shared_ptr<detail::SslObjectState> state_;
};

/// Whom a certificate is accepted from. Views are copied.
struct SslVerifyLocations {
    std::string_view cafile{};  // PEM: certificates and revocation lists
    std::string_view capath{};  // a directory of them, named by hash (`openssl rehash`)
    std::string_view cadata{};  // PEM, or certificates in DER
};

/// The settings of any number of connections. Set it up before it is used: connections in several threads may share a context
/// that nobody changes. SslError for what OpenSSL refuses, FileNotFoundError and its kind for files.
class SslContext {
  public:
    /// A server's: the name that the client asks for (empty: none). Calls `set_context` on the object, or does nothing. A
    /// number refuses the client with that TLS alert, an exception with handshake_failure.
    using ServernameCallback =
        Function<std::optional<int>(SslObject&, const std::string& server_name, const SslContext&)>;

    /// TLS 1.2 or newer, good ciphers, no compression and no renegotiation. A client's: CERT_REQUIRED and check_hostname, but no
    /// certificates to trust. `create_default_context` gives one that is complete.
    explicit SslContext(SslProtocol protocol);

    SslProtocol protocol() const;

    // ---- certificates

    /// Our own certificate with those that lead to the root, and its key (in the same file without `keyfile`), in PEM.
    void load_cert_chain(const std::string& certfile, const std::string& keyfile = {},
                         const std::string& password = {});
    /// TypeError if all are empty.
    void load_verify_locations(SslVerifyLocations locations);
    /// The system's authorities.
    void load_default_certs(SslPurpose purpose = SslPurpose::SERVER_AUTH);
    void set_default_verify_paths();
    /// The authorities that are loaded.
    std::vector<SslCertificate> get_ca_certs() const;

    // ---- verification

    SslVerifyMode verify_mode() const;
    /// ValueError for CERT_NONE while check_hostname is on.
    void set_verify_mode(SslVerifyMode mode);
    bool check_hostname() const;
    /// On, turns CERT_NONE into CERT_REQUIRED.
    void set_check_hostname(bool check);
    SslVerifyFlags verify_flags() const;
    void set_verify_flags(SslVerifyFlags flags);

    // ---- what is spoken

    TlsVersion minimum_version() const;
    void set_minimum_version(TlsVersion version);
    TlsVersion maximum_version() const;
    void set_maximum_version(TlsVersion version);
    /// For TLS up to 1.2, in OpenSSL's notation.
    void set_ciphers(const std::string& ciphers);
    std::vector<SslCipher> get_ciphers() const;
    SslOptions options() const;
    void set_options(SslOptions options);
    /// In order of preference; the server's order decides. Each of 1 to 255 bytes, else SslError.
    void set_alpn_protocols(const std::vector<std::string>& protocols);
    /// An empty function removes it.
    void set_servername_callback(ServernameCallback callback);

    // ---- sessions

    SslSessionStats session_stats() const;
    /// Of TLS 1.3, given to each client.
    int num_tickets() const;
    void set_num_tickets(int number);

    // ---- debugging

    /// A file to which the keys of all connections are appended, for Wireshark and its kind; empty: none.
    std::string keylog_filename() const;
    void set_keylog_filename(const std::string& path);

    /// In one line, see format.hpp.
    std::string describe() const;
    friend bool operator==(const SslContext& a, const SslContext& b) noexcept { return a.state_ == b.state_; }

    /// For coil's own layers.
    explicit SslContext(std::shared_ptr<detail::SslContextState> state) noexcept : state_(std::move(state)) {}
    const std::shared_ptr<detail::SslContextState>& state() const noexcept { return state_; }

  private:
    std::shared_ptr<detail::SslContextState> state_;
};

constexpr SslVerifyFlags operator|(SslVerifyFlags a, SslVerifyFlags b) noexcept {
    return static_cast<SslVerifyFlags>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr SslOptions operator|(SslOptions a, SslOptions b) noexcept {
    return static_cast<SslOptions>(static_cast<std::uint64_t>(a) | static_cast<std::uint64_t>(b));
}

/// A client's context (SERVER_AUTH) or a server's (CLIENT_AUTH) with safe settings. A client's trusts the given authorities, or
/// the system's if none are given. Appends keys to the file that the environment's SSLKEYLOGFILE names.
SslContext create_default_context(SslPurpose purpose = SslPurpose::SERVER_AUTH,
                                  SslVerifyLocations locations = {});

template <>
inline constexpr bool detail::DESCRIBED<SslCertificate> = true;
template <>
inline constexpr bool detail::DESCRIBED<SslSession> = true;
template <>
inline constexpr bool detail::DESCRIBED<SslObject> = true;
template <>
inline constexpr bool detail::DESCRIBED<SslContext> = true;

}  // namespace coil
