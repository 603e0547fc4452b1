#include "support/certificates.hpp"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <stdexcept>

namespace support {

namespace {

template <auto FREE>
struct FreeBy {
    template <class T>
    void operator()(T* object) const {
        FREE(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, FreeBy<&EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, FreeBy<&X509_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;

void must(bool good, const char* what) {
    if (!good) throw std::runtime_error(std::string("making certificates: ") + what);
}

Key new_key() {
    Key key(EVP_EC_gen("P-256"));
    must(key != nullptr, "EVP_EC_gen");
    return key;
}

template <class Write>
std::string pem(Write write) {
    Bio bio(BIO_new(BIO_s_mem()));
    must(write(bio.get()) == 1, "writing PEM");
    char* data = nullptr;
    long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
}

std::string pem_of(X509* certificate) {
    return pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}
std::string pem_of(EVP_PKEY* key) {
    return pem(
        [&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    must(extension != nullptr, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

Certificate new_certificate(const Subject& subject, long serial, EVP_PKEY* key, X509* issuer) {
    Certificate certificate(X509_new());
    X509* x = certificate.get();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    std::time_t now = std::time(nullptr);  // one for both: the second may end between them
    X509_time_adj(X509_getm_notBefore(x), subject.valid_from, &now);
    X509_time_adj(X509_getm_notAfter(x), subject.valid_until, &now);
    X509_set_pubkey(x, key);
    const auto* name = reinterpret_cast<const unsigned char*>(subject.name.c_str());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    return certificate;
}

void sign_leaf(X509* certificate, X509* issuer, EVP_PKEY* key, const Subject& subject) {
    add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature");
    add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
    add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
    if (issuer != certificate)
        add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
    std::string names;
    for (const std::string& name : subject.alt_names) names += (names.empty() ? "" : ",") + name;
    if (!names.empty()) add_extension(certificate, issuer, NID_subject_alt_name, names);
    must(X509_sign(certificate, key, EVP_sha256()) > 0, "X509_sign");
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "coil-test-XXXXXX").string();
    must(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
    path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path(name);
}

struct Authority::State {
    Key key = new_key();
    Certificate certificate;
    std::string pem;
    long next_serial = 1000;
};

Authority::Authority(const std::string& name) : state_(std::make_unique<State>()) {
    Subject subject;
    subject.name = name;
    state_->certificate = new_certificate(subject, 1, state_->key.get(), nullptr);
    X509* x = state_->certificate.get();
    add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(x, x, NID_subject_key_identifier, "hash");
    must(X509_sign(x, state_->key.get(), EVP_sha256()) > 0, "X509_sign");
    state_->pem = pem_of(x);
}

Authority::~Authority() = default;

const std::string& Authority::certificate() const { return state_->pem; }

Identity Authority::issue(const Subject& subject) {
    Key key = new_key();
    X509* issuer = state_->certificate.get();
    long serial = subject.serial != 0 ? subject.serial : ++state_->next_serial;
    Certificate certificate = new_certificate(subject, serial, key.get(), issuer);
    sign_leaf(certificate.get(), issuer, state_->key.get(), subject);
    return {.certificate = pem_of(certificate.get()), .key = pem_of(key.get())};
}

std::string Authority::revoke(const std::vector<long>& serials) const {
    std::unique_ptr<X509_CRL, FreeBy<&X509_CRL_free>> list(X509_CRL_new());
    X509_CRL_set_version(list.get(), 1);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(state_->certificate.get()));
    std::unique_ptr<ASN1_TIME, FreeBy<&ASN1_TIME_free>> now(X509_gmtime_adj(nullptr, -60));
    std::unique_ptr<ASN1_TIME, FreeBy<&ASN1_TIME_free>> next(X509_gmtime_adj(nullptr, 24 * 3600));
    X509_CRL_set1_lastUpdate(list.get(), now.get());
    X509_CRL_set1_nextUpdate(list.get(), next.get());
    for (long serial : serials) {
        X509_REVOKED* revoked = X509_REVOKED_new();
        std::unique_ptr<ASN1_INTEGER, FreeBy<&ASN1_INTEGER_free>> number(ASN1_INTEGER_new());
        ASN1_INTEGER_set(number.get(), serial);
        X509_REVOKED_set_serialNumber(revoked, number.get());
        X509_REVOKED_set_revocationDate(revoked, now.get());
        X509_CRL_add0_revoked(list.get(), revoked);
    }
    X509_CRL_sort(list.get());
    must(X509_CRL_sign(list.get(), state_->key.get(), EVP_sha256()) > 0, "X509_CRL_sign");
    return pem([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, list.get()); });
}

Identity self_signed(const Subject& subject) {
    Key key = new_key();
    Certificate certificate = new_certificate(subject, 7, key.get(), nullptr);
    sign_leaf(certificate.get(), certificate.get(), key.get(), subject);
    return {.certificate = pem_of(certificate.get()), .key = pem_of(key.get())};
}

std::string with_password(const std::string& key, const std::string& password) {
    Bio bio(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
    Key plain(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
    must(plain != nullptr, "reading a key");
    const auto* secret = reinterpret_cast<const unsigned char*>(password.data());
    return pem([&](BIO* out) {
        return PEM_write_bio_PrivateKey(out, plain.get(), EVP_aes_128_cbc(), secret,
                                        static_cast<int>(password.size()), nullptr, nullptr);
    });
}

}  // namespace support
