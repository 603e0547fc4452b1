#pragma once

// What the sources that use OpenSSL share: owners of its objects, its errors, the states behind the handles of ssl.hpp.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

#include "coil/exceptions.hpp"
#include "coil/ssl.hpp"

namespace coil::detail {

template <auto FREE>
struct FreeBy {
    template <class T>
    void operator()(T* object) const noexcept {
        FREE(object);
    }
};
template <class T, auto FREE>
using Owned = std::unique_ptr<T, FreeBy<FREE>>;

struct SslContextState {
    Owned<SSL_CTX, &SSL_CTX_free> ctx;
    SslProtocol protocol;
    bool check_hostname = false;
    std::string alpn;  // as it goes over the wire: each name behind its length
    SslContext::ServernameCallback servername_callback;
    std::string keylog_filename;
    Owned<std::FILE, &std::fclose> keylog;
    std::mutex keylog_mutex;  // connections of several threads may share the context
};

struct SslObjectState : std::enable_shared_from_this<SslObjectState> {
    SslObjectState(const SslContext& its_context, bool is_server)
        : context(its_context), server_side(is_server) {}

    SslContext context;                        // changed by a servername callback
    const SslContext first_context = context;  // whose callbacks OpenSSL goes on calling
    std::string server_hostname{};
    bool server_side;
    std::exception_ptr callback_error{};  // what a callback threw: it must not pass through OpenSSL
    Owned<SSL, &SSL_free> ssl{};          // goes before the contexts
};

struct SslSessionState {
    Owned<SSL_SESSION, &SSL_SESSION_free> session;
    SslContext context;
};

struct SslCertificateState {
    Owned<X509, &X509_free> certificate;
};

/// From the thread's queue of errors, which is empty afterwards: clear it before the call that may fail.
std::exception_ptr take_ssl_error(const std::string& filename = {});
[[noreturn]] void throw_ssl_error(const std::string& filename = {});

/// What an operation on a connection failed with, for a `result` of SSL_get_error that is no wish for more input.
std::exception_ptr take_connection_error(const SslObjectState& object, int result);

inline int number_of(SslVerifyMode mode) {
    switch (mode) {
        case SslVerifyMode::CERT_NONE:
            return SSL_VERIFY_NONE;
        case SslVerifyMode::CERT_OPTIONAL:
            return SSL_VERIFY_PEER;
        default:
            return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
}

}  // namespace coil::detail
