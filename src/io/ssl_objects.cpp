// What can be asked about a connection: its object, its peer's certificate, its session.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <new>

#include "io/openssl.hpp"

namespace coil {

using detail::Owned;

namespace {

using OpensslText = std::unique_ptr<char, decltype([](char* text) { OPENSSL_free(text); })>;

std::string text_of(const ASN1_STRING* string) {
    unsigned char* utf8 = nullptr;
    int size = ASN1_STRING_to_UTF8(&utf8, string);
    if (size < 0) {
        ERR_clear_error();
        return {};
    }
    OpensslText owner(reinterpret_cast<char*>(utf8));
    return std::string(owner.get(), static_cast<std::size_t>(size));
}

SslCertificate::Name entries_of(const X509_NAME* name) {
    SslCertificate::Name entries;
    for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
        const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
        char key[80];
        OBJ_obj2txt(key, sizeof key, X509_NAME_ENTRY_get_object(entry), 0);
        entries.emplace_back(key, text_of(X509_NAME_ENTRY_get_data(entry)));
    }
    return entries;
}

std::chrono::sys_seconds time_of(const ASN1_TIME* time) {
    std::tm tm{};
    if (ASN1_TIME_to_tm(time, &tm) != 1) {
        ERR_clear_error();
        return {};
    }
    using namespace std::chrono;
    year_month_day day(year(tm.tm_year + 1900), month(static_cast<unsigned>(tm.tm_mon + 1)),
                       std::chrono::day(static_cast<unsigned>(tm.tm_mday)));
    return sys_days(day) + hours(tm.tm_hour) + minutes(tm.tm_min) + seconds(tm.tm_sec);
}

std::string ip_text(const ASN1_OCTET_STRING* address) {
    int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
    if (family == AF_INET6 && ASN1_STRING_length(address) != 16) return "<invalid>";
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text);
    return text;
}

}  // namespace

SslCertificate::Name SslCertificate::subject() const {
    return entries_of(X509_get_subject_name(state_->certificate.get()));
}
SslCertificate::Name SslCertificate::issuer() const {
    return entries_of(X509_get_issuer_name(state_->certificate.get()));
}
std::chrono::sys_seconds SslCertificate::not_before() const {
    return time_of(X509_get0_notBefore(state_->certificate.get()));
}
std::chrono::sys_seconds SslCertificate::not_after() const {
    return time_of(X509_get0_notAfter(state_->certificate.get()));
}
int SslCertificate::version() const {
    return static_cast<int>(X509_get_version(state_->certificate.get())) + 1;
}

std::string SslCertificate::serial_number() const {
    Owned<BIGNUM, &BN_free> number(
        ASN1_INTEGER_to_BN(X509_get0_serialNumber(state_->certificate.get()), nullptr));
    OpensslText text(number ? BN_bn2hex(number.get()) : nullptr);
    if (!text) throw std::bad_alloc();
    return text.get();
}

std::vector<std::pair<std::string, std::string>> SslCertificate::subject_alt_name() const {
    std::vector<std::pair<std::string, std::string>> entries;
    Owned<GENERAL_NAMES, &GENERAL_NAMES_free> names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(state_->certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
    ERR_clear_error();
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        switch (name->type) {
            case GEN_DNS:
                entries.emplace_back("DNS", text_of(name->d.dNSName));
                break;
            case GEN_EMAIL:
                entries.emplace_back("email", text_of(name->d.rfc822Name));
                break;
            case GEN_URI:
                entries.emplace_back("URI", text_of(name->d.uniformResourceIdentifier));
                break;
            case GEN_IPADD:
                entries.emplace_back("IP Address", ip_text(name->d.iPAddress));
                break;
            default:
                break;
        }
    }
    return entries;
}

std::string SslCertificate::der() const {
    int size = i2d_X509(state_->certificate.get(), nullptr);
    if (size < 0) detail::throw_ssl_error();
    std::string der(static_cast<std::size_t>(size), '\0');
    auto* at = reinterpret_cast<unsigned char*>(der.data());
    i2d_X509(state_->certificate.get(), &at);
    return der;
}

std::string SslCertificate::describe() const {
    std::string text;
    for (const auto& [key, value] : subject())
        text += fmt::format("{}{}={}", text.empty() ? "" : ", ", key, value);
    return fmt::format("<SslCertificate {}>", text.empty() ? "without a subject" : text);
}

// ---- sessions

std::string SslSession::describe() const {
    return fmt::format("<SslSession {}>", resumable() ? "resumable" : "not resumable");
}

std::string SslSession::id() const {
    unsigned size = 0;
    const unsigned char* id = SSL_SESSION_get_id(state_->session.get(), &size);
    return std::string(reinterpret_cast<const char*>(id), size);
}
std::chrono::sys_seconds SslSession::time() const {
#if OPENSSL_VERSION_NUMBER >= 0x30300000L
    auto time = SSL_SESSION_get_time_ex(state_->session.get());
#else
    auto time = SSL_SESSION_get_time(state_->session.get());
#endif
    return std::chrono::sys_seconds(std::chrono::seconds(time));
}
std::chrono::seconds SslSession::timeout() const {
    return std::chrono::seconds(SSL_SESSION_get_timeout(state_->session.get()));
}
bool SslSession::has_ticket() const { return SSL_SESSION_has_ticket(state_->session.get()) == 1; }
std::chrono::seconds SslSession::ticket_lifetime_hint() const {
    return std::chrono::seconds(
        static_cast<long>(SSL_SESSION_get_ticket_lifetime_hint(state_->session.get())));
}
bool SslSession::resumable() const { return SSL_SESSION_is_resumable(state_->session.get()) == 1; }

// ---- the connection

std::string SslObject::version() const {
    SSL* ssl = state_->ssl.get();
    return SSL_is_init_finished(ssl) ? SSL_get_version(ssl) : "";
}

std::optional<SslCipher> SslObject::cipher() const {
    const SSL_CIPHER* cipher = SSL_get_current_cipher(state_->ssl.get());
    if (!cipher) return std::nullopt;
    return SslCipher{.name = SSL_CIPHER_get_name(cipher),
                     .protocol = SSL_CIPHER_get_version(cipher),
                     .bits = SSL_CIPHER_get_bits(cipher, nullptr)};
}

std::string SslObject::selected_alpn_protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(state_->ssl.get(), &name, &size);
    return std::string(reinterpret_cast<const char*>(name), size);
}

std::optional<SslCertificate> SslObject::getpeercert() const {
    X509* certificate = SSL_get1_peer_certificate(state_->ssl.get());
    if (!certificate) return std::nullopt;
    auto state = std::make_shared<detail::SslCertificateState>();
    state->certificate.reset(certificate);
    return SslCertificate(std::move(state));
}

std::string SslObject::server_hostname() const {
    if (state_->server_side && state_->server_hostname.empty()) {
        const char* name = SSL_get_servername(state_->ssl.get(), TLSEXT_NAMETYPE_host_name);
        return name ? name : "";
    }
    return state_->server_hostname;
}
bool SslObject::server_side() const { return state_->server_side; }
std::size_t SslObject::pending() const { return static_cast<std::size_t>(SSL_pending(state_->ssl.get())); }

std::optional<SslSession> SslObject::session() const {
    if (state_->server_side) return std::nullopt;
    SSL_SESSION* session = SSL_get0_session(state_->ssl.get());
    if (!session || !SSL_is_init_finished(state_->ssl.get())) return std::nullopt;
    // A copy: OpenSSL makes a connection's own session useless when the connection ends badly.
    SSL_SESSION* copy = SSL_SESSION_dup(session);
    if (!copy) throw std::bad_alloc();
    return SslSession(std::make_shared<detail::SslSessionState>(Owned<SSL_SESSION, &SSL_SESSION_free>(copy),
                                                                state_->first_context));
}

bool SslObject::session_reused() const { return SSL_session_reused(state_->ssl.get()) == 1; }

std::string SslObject::describe() const {
    std::string spoken = version(), name = server_hostname();
    return fmt::format("<SslObject {}, {}{}{}>", server_side() ? "server" : "client",
                       spoken.empty() ? "before its handshake" : spoken, name.empty() ? "" : ", ", name);
}

SslContext SslObject::context() const { return state_->context; }

void SslObject::set_context(const SslContext& context) {
    ERR_clear_error();
    if (!SSL_set_SSL_CTX(state_->ssl.get(), context.state()->ctx.get())) detail::throw_ssl_error();
    // OpenSSL takes over the certificates alone.
    SSL_set_verify(state_->ssl.get(), detail::number_of(context.verify_mode()), nullptr);
    state_->context = context;
}

}  // namespace coil
