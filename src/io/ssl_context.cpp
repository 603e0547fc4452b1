#include "base/c_text.hpp"
#include "coil/ssl.hpp"

#include <fmt/format.h>
#include <openssl/pem.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "io/openssl.hpp"

namespace coil {

namespace {

using detail::Owned;
using detail::SslContextState;

static_assert(OP_ENABLE_KTLS == SSL_OP_ENABLE_KTLS && OP_NO_TICKET == SSL_OP_NO_TICKET &&
              OP_NO_COMPRESSION == SSL_OP_NO_COMPRESSION &&
              OP_CIPHER_SERVER_PREFERENCE == SSL_OP_CIPHER_SERVER_PREFERENCE &&
              OP_NO_TLSv1_2 == SSL_OP_NO_TLSv1_2 && OP_NO_TLSv1_3 == SSL_OP_NO_TLSv1_3 &&
              OP_NO_RENEGOTIATION == SSL_OP_NO_RENEGOTIATION);
static_assert(VERIFY_CRL_CHECK_LEAF == X509_V_FLAG_CRL_CHECK &&
              VERIFY_CRL_CHECK_CHAIN == (X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) &&
              VERIFY_X509_STRICT == X509_V_FLAG_X509_STRICT &&
              VERIFY_ALLOW_PROXY_CERTS == X509_V_FLAG_ALLOW_PROXY_CERTS &&
              VERIFY_X509_TRUSTED_FIRST == X509_V_FLAG_TRUSTED_FIRST &&
              VERIFY_X509_PARTIAL_CHAIN == X509_V_FLAG_PARTIAL_CHAIN);

// Python's: forward secrecy, no SHA-1, no anonymous ones.
constexpr const char* CIPHERS =
    "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM";

SSL_CTX* ctx_of(const SslContext& context) { return context.state()->ctx.get(); }

SslContextState& state_of(SSL* ssl) {
    return *static_cast<SslContextState*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

void write_keylog(const SSL* ssl, const char* line) {
    auto& state = *static_cast<SslContextState*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    std::lock_guard lock(state.keylog_mutex);
    if (!state.keylog) return;
    std::fprintf(state.keylog.get(), "%s\n", line);
    std::fflush(state.keylog.get());
}

int select_alpn(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                const unsigned char* theirs, unsigned their_size, void*) {
    const std::string& ours = state_of(ssl).alpn;
    unsigned char* selected = nullptr;
    int result =
        SSL_select_next_proto(&selected, chosen_size, reinterpret_cast<const unsigned char*>(ours.data()),
                              static_cast<unsigned>(ours.size()), theirs, their_size);
    if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
    *chosen = selected;
    return SSL_TLSEXT_ERR_OK;
}

int call_servername_callback(SSL* ssl, int* alert, void* argument) {
    auto& object = *static_cast<detail::SslObjectState*>(SSL_get_app_data(ssl));
    if (!object.server_side) return SSL_TLSEXT_ERR_OK;
    auto& state = *static_cast<SslContextState*>(argument);
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name) object.server_hostname = name;
    try {
        auto callback = state.servername_callback;  // it may remove itself
        SslObject handle(object.shared_from_this());
        if (auto refused = callback(handle, object.server_hostname, object.first_context)) {
            *alert = *refused;
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        }
        return SSL_TLSEXT_ERR_OK;
    } catch (...) {
        object.callback_error = std::current_exception();
        *alert = SSL_AD_HANDSHAKE_FAILURE;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
}

/// Always: else OpenSSL asks at the terminal.
int give_password(char* buffer, int size, int, void* argument) {
    const auto& password = *static_cast<const std::string*>(argument);
    if (password.empty() || password.size() > static_cast<std::size_t>(size)) return -1;
    std::memcpy(buffer, password.data(), password.size());
    return static_cast<int>(password.size());
}

using BioPtr = Owned<BIO, &BIO_free_all>;

BioPtr memory(std::string_view data) {
    BioPtr bio(BIO_new_mem_buf(data.data(), static_cast<int>(data.size())));
    if (!bio) detail::throw_ssl_error();
    return bio;
}

void free_infos(STACK_OF(X509_INFO) * infos) { sk_X509_INFO_pop_free(infos, X509_INFO_free); }

/// Gives how many certificates and lists were added.
int add_pem(X509_STORE* store, std::string_view data) {
    BioPtr bio = memory(data);
    std::string no_password;
    Owned<STACK_OF(X509_INFO), &free_infos> infos(
        PEM_X509_INFO_read_bio(bio.get(), nullptr, give_password, &no_password));
    if (!infos) detail::throw_ssl_error();
    int added = 0;
    for (int i = 0; i < sk_X509_INFO_num(infos.get()); ++i) {
        X509_INFO* info = sk_X509_INFO_value(infos.get(), i);
        if (info->x509 && X509_STORE_add_cert(store, info->x509) == 1) ++added;
        if (info->crl && X509_STORE_add_crl(store, info->crl) == 1) ++added;
    }
    return added;
}

int add_der(X509_STORE* store, std::string_view data) {
    int added = 0;
    const auto* at = reinterpret_cast<const unsigned char*>(data.data());
    const auto* end = at + data.size();
    while (at != end) {
        Owned<X509, &X509_free> certificate(d2i_X509(nullptr, &at, end - at));
        if (!certificate) detail::throw_ssl_error();
        if (X509_STORE_add_cert(store, certificate.get()) == 1) ++added;
    }
    return added;
}

int number_of(TlsVersion version) {
    switch (version) {
        case TlsVersion::TLSv1:
            return TLS1_VERSION;
        case TlsVersion::TLSv1_1:
            return TLS1_1_VERSION;
        case TlsVersion::TLSv1_2:
            return TLS1_2_VERSION;
        case TlsVersion::TLSv1_3:
            return TLS1_3_VERSION;
        default:
            return 0;  // OpenSSL's lowest, its highest
    }
}

TlsVersion version_of(long number, TlsVersion without) {
    switch (number) {
        case TLS1_VERSION:
            return TlsVersion::TLSv1;
        case TLS1_1_VERSION:
            return TlsVersion::TLSv1_1;
        case TLS1_2_VERSION:
            return TlsVersion::TLSv1_2;
        case TLS1_3_VERSION:
            return TlsVersion::TLSv1_3;
        default:
            return without;
    }
}

}  // namespace

SslContext::SslContext(SslProtocol protocol) {
    ERR_clear_error();
    bool client = protocol == SslProtocol::TLS_CLIENT;
    auto state = std::make_shared<SslContextState>();
    state->protocol = protocol;
    state->ctx.reset(SSL_CTX_new(client ? TLS_client_method() : TLS_server_method()));
    SSL_CTX* ctx = state->ctx.get();
    if (!ctx) detail::throw_ssl_error();
    SSL_CTX_set_app_data(ctx, state.get());
    std::uint64_t options = SSL_OP_ALL & ~static_cast<std::uint64_t>(SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS);
    options |= SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION;
    SSL_CTX_set_options(ctx, options);
    // An idle connection then holds no record buffers: 34 KiB less.
    SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        detail::throw_ssl_error();
    static constexpr unsigned char NAME[] = {'c', 'o', 'i', 'l'};
    SSL_CTX_set_session_id_context(ctx, NAME, sizeof NAME);
    X509_VERIFY_PARAM_set_hostflags(SSL_CTX_get0_param(ctx), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_TRUSTED_FIRST);
    state_ = std::move(state);
    set_verify_mode(client ? SslVerifyMode::CERT_REQUIRED : SslVerifyMode::CERT_NONE);
    set_check_hostname(client);
}

std::string SslContext::describe() const {
    static constexpr const char* MODES[] = {"CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED"};
    return fmt::format("<SslContext {}, {}{}>", protocol() == SslProtocol::TLS_SERVER ? "server" : "client",
                       MODES[static_cast<std::size_t>(verify_mode())],
                       check_hostname() ? ", host names checked" : "");
}

SslProtocol SslContext::protocol() const { return state_->protocol; }

// ---- certificates

void SslContext::load_cert_chain(const std::string& certfile, const std::string& keyfile,
                                 const std::string& password) {
    SSL_CTX* ctx = ctx_of(*this);
    const std::string& key = keyfile.empty() ? certfile : keyfile;
    struct WithPassword {
        WithPassword(SSL_CTX* its_ctx, const std::string& its_password) : ctx(its_ctx) {
            SSL_CTX_set_default_passwd_cb(ctx, give_password);
            SSL_CTX_set_default_passwd_cb_userdata(ctx,
                                                   const_cast<std::string*>(&its_password));  // only read
        }
        ~WithPassword() {
            SSL_CTX_set_default_passwd_cb(ctx, nullptr);
            SSL_CTX_set_default_passwd_cb_userdata(ctx, nullptr);
        }
        SSL_CTX* ctx;
    } with_password(ctx, password);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, detail::c_text(certfile)) != 1)
        detail::throw_ssl_error(certfile);
    if (SSL_CTX_use_PrivateKey_file(ctx, detail::c_text(key), SSL_FILETYPE_PEM) != 1)
        detail::throw_ssl_error(key);
    if (SSL_CTX_check_private_key(ctx) != 1) detail::throw_ssl_error();
}

void SslContext::load_verify_locations(SslVerifyLocations locations) {
    auto [cafile, capath, cadata] = locations;
    if (cafile.empty() && capath.empty() && cadata.empty())
        throw TypeError("cafile, capath and cadata cannot be all omitted");
    ERR_clear_error();
    SSL_CTX* ctx = ctx_of(*this);
    if (!cadata.empty()) {
        X509_STORE* store = SSL_CTX_get_cert_store(ctx);
        bool pem = cadata.find("-----BEGIN") != cadata.npos;
        if ((pem ? add_pem(store, cadata) : add_der(store, cadata)) == 0)
            throw SslError("no start line: cadata does not contain a certificate");
        ERR_clear_error();
    }
    std::string file(cafile), path(capath);
    if ((!file.empty() || !path.empty()) &&
        SSL_CTX_load_verify_locations(ctx, file.empty() ? nullptr : detail::c_text(file),
                                      path.empty() ? nullptr : detail::c_text(path)) != 1)
        detail::throw_ssl_error(file);
}

void SslContext::load_default_certs(SslPurpose) { set_default_verify_paths(); }

void SslContext::set_default_verify_paths() {
    ERR_clear_error();
    if (SSL_CTX_set_default_verify_paths(ctx_of(*this)) != 1) detail::throw_ssl_error();
    ERR_clear_error();  // files that are not there are no error, but leave one
}

std::vector<SslCertificate> SslContext::get_ca_certs() const {
    std::vector<SslCertificate> certificates;
    STACK_OF(X509_OBJECT)* objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx_of(*this)));
    for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
        X509* certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (!certificate || X509_check_ca(certificate) == 0) continue;
        X509_up_ref(certificate);
        auto state = std::make_shared<detail::SslCertificateState>();
        state->certificate.reset(certificate);
        certificates.emplace_back(std::move(state));
    }
    ERR_clear_error();
    return certificates;
}

// ---- verification

SslVerifyMode SslContext::verify_mode() const {
    int mode = SSL_CTX_get_verify_mode(ctx_of(*this));
    if (mode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) return SslVerifyMode::CERT_REQUIRED;
    return mode & SSL_VERIFY_PEER ? SslVerifyMode::CERT_OPTIONAL : SslVerifyMode::CERT_NONE;
}

void SslContext::set_verify_mode(SslVerifyMode mode) {
    if (mode == SslVerifyMode::CERT_NONE && check_hostname())
        throw ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.");
    SSL_CTX_set_verify(ctx_of(*this), detail::number_of(mode), nullptr);
}

bool SslContext::check_hostname() const { return state_->check_hostname; }

void SslContext::set_check_hostname(bool check) {
    if (check && verify_mode() == SslVerifyMode::CERT_NONE) set_verify_mode(SslVerifyMode::CERT_REQUIRED);
    state_->check_hostname = check;
}

SslVerifyFlags SslContext::verify_flags() const {
    return static_cast<SslVerifyFlags>(X509_VERIFY_PARAM_get_flags(SSL_CTX_get0_param(ctx_of(*this))));
}

void SslContext::set_verify_flags(SslVerifyFlags flags) {
    X509_VERIFY_PARAM* param = SSL_CTX_get0_param(ctx_of(*this));
    X509_VERIFY_PARAM_clear_flags(param, X509_VERIFY_PARAM_get_flags(param));
    X509_VERIFY_PARAM_set_flags(param, flags);
}

// ---- what is spoken

TlsVersion SslContext::minimum_version() const {
    return version_of(SSL_CTX_get_min_proto_version(ctx_of(*this)), TlsVersion::MINIMUM_SUPPORTED);
}

void SslContext::set_minimum_version(TlsVersion version) {
    int number = version == TlsVersion::MAXIMUM_SUPPORTED ? TLS1_3_VERSION : number_of(version);
    SSL_CTX_set_min_proto_version(ctx_of(*this), number);
}

TlsVersion SslContext::maximum_version() const {
    return version_of(SSL_CTX_get_max_proto_version(ctx_of(*this)), TlsVersion::MAXIMUM_SUPPORTED);
}

void SslContext::set_maximum_version(TlsVersion version) {
    int number = version == TlsVersion::MINIMUM_SUPPORTED ? TLS1_VERSION : number_of(version);
    SSL_CTX_set_max_proto_version(ctx_of(*this), number);
}

void SslContext::set_ciphers(const std::string& ciphers) {
    int result = SSL_CTX_set_cipher_list(ctx_of(*this), detail::c_text(ciphers));
    ERR_clear_error();
    if (result != 1) throw SslError("No cipher can be selected.");
}

std::vector<SslCipher> SslContext::get_ciphers() const {
    std::vector<SslCipher> ciphers;
    STACK_OF(SSL_CIPHER)* stack = SSL_CTX_get_ciphers(ctx_of(*this));
    for (int i = 0; i < sk_SSL_CIPHER_num(stack); ++i) {
        const SSL_CIPHER* cipher = sk_SSL_CIPHER_value(stack, i);
        ciphers.push_back({.name = SSL_CIPHER_get_name(cipher),
                           .protocol = SSL_CIPHER_get_version(cipher),
                           .bits = SSL_CIPHER_get_bits(cipher, nullptr)});
    }
    return ciphers;
}

SslOptions SslContext::options() const { return static_cast<SslOptions>(SSL_CTX_get_options(ctx_of(*this))); }

void SslContext::set_options(SslOptions options) {
    SSL_CTX* ctx = ctx_of(*this);
    SSL_CTX_clear_options(ctx, SSL_CTX_get_options(ctx) & ~static_cast<std::uint64_t>(options));
    SSL_CTX_set_options(ctx, options);
}

void SslContext::set_alpn_protocols(const std::vector<std::string>& protocols) {
    std::string wire;
    for (const std::string& name : protocols) {
        if (name.empty() || name.size() > 255) throw SslError("ALPN protocols must be 1 to 255 in length");
        wire += static_cast<char>(name.size());
        wire += name;
    }
    state_->alpn = wire;
    SSL_CTX* ctx = ctx_of(*this);
    if (SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(wire.data()),
                                static_cast<unsigned>(wire.size())) != 0)
        throw std::bad_alloc();
    SSL_CTX_set_alpn_select_cb(ctx, wire.empty() ? nullptr : select_alpn, nullptr);
}

void SslContext::set_servername_callback(ServernameCallback callback) {
    bool any = static_cast<bool>(callback);
    state_->servername_callback = std::move(callback);
    // What OpenSSL's macro does, whose cast is an old one.
    using Untyped = void (*)();
    SSL_CTX_callback_ctrl(ctx_of(*this), SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                          any ? reinterpret_cast<Untyped>(call_servername_callback) : nullptr);
    SSL_CTX_set_tlsext_servername_arg(ctx_of(*this), any ? state_.get() : nullptr);
}

// ---- sessions

SslSessionStats SslContext::session_stats() const {
    SSL_CTX* ctx = ctx_of(*this);
    return {.number = SSL_CTX_sess_number(ctx),
            .connect = SSL_CTX_sess_connect(ctx),
            .connect_good = SSL_CTX_sess_connect_good(ctx),
            .connect_renegotiate = SSL_CTX_sess_connect_renegotiate(ctx),
            .accept = SSL_CTX_sess_accept(ctx),
            .accept_good = SSL_CTX_sess_accept_good(ctx),
            .accept_renegotiate = SSL_CTX_sess_accept_renegotiate(ctx),
            .hits = SSL_CTX_sess_hits(ctx),
            .misses = SSL_CTX_sess_misses(ctx),
            .timeouts = SSL_CTX_sess_timeouts(ctx),
            .cache_full = SSL_CTX_sess_cache_full(ctx)};
}

int SslContext::num_tickets() const { return static_cast<int>(SSL_CTX_get_num_tickets(ctx_of(*this))); }

void SslContext::set_num_tickets(int number) {
    if (number < 0) throw ValueError("value must be non-negative");
    SSL_CTX_set_num_tickets(ctx_of(*this), static_cast<std::size_t>(number));
}

// ---- debugging

std::string SslContext::keylog_filename() const { return state_->keylog_filename; }

void SslContext::set_keylog_filename(const std::string& path) {
    Owned<std::FILE, &std::fclose> file(path.empty() ? nullptr : std::fopen(detail::c_text(path), "ae"));
    if (!path.empty() && !file)
        throw_os_error(errno, fmt::format("{}: '{}'", std::generic_category().message(errno), path));
    std::lock_guard lock(state_->keylog_mutex);
    state_->keylog = std::move(file);
    state_->keylog_filename = path;
    SSL_CTX_set_keylog_callback(ctx_of(*this), path.empty() ? nullptr : write_keylog);
}

SslContext create_default_context(SslPurpose purpose, SslVerifyLocations locations) {
    bool client = purpose == SslPurpose::SERVER_AUTH;
    SslContext context(client ? SslProtocol::TLS_CLIENT : SslProtocol::TLS_SERVER);
    context.set_verify_flags(context.verify_flags() | VERIFY_X509_PARTIAL_CHAIN | VERIFY_X509_STRICT);
    if (!locations.cafile.empty() || !locations.capath.empty() || !locations.cadata.empty()) {
        context.load_verify_locations(locations);
    } else if (client) {
        context.load_default_certs(purpose);
    }
    if (const char* keylog = std::getenv("SSLKEYLOGFILE"); keylog && *keylog)
        context.set_keylog_filename(keylog);
    return context;
}

}  // namespace coil
