#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "io/openssl.hpp"

namespace coil::detail {

namespace {

const char* library_name(unsigned long error) {
    switch (ERR_GET_LIB(error)) {
        case ERR_LIB_SSL:
            return "SSL";
        case ERR_LIB_PEM:
            return "PEM";
        case ERR_LIB_X509:
            return "X509";
        case ERR_LIB_X509V3:
            return "X509V3";
        case ERR_LIB_ASN1:
            return "ASN1";
        case ERR_LIB_EVP:
            return "EVP";
        case ERR_LIB_RSA:
            return "RSA";
        case ERR_LIB_EC:
            return "EC";
        case ERR_LIB_BIO:
            return "BIO";
        case ERR_LIB_CONF:
            return "CONF";
        case ERR_LIB_CRYPTO:
            return "CRYPTO";
        default:
            return "";
    }
}

/// "wrong version number" is OpenSSL's text for SSL_R_WRONG_VERSION_NUMBER: the name can be told from it.
std::string reason_name(const char* text) {
    std::string name = text ? text : "";
    for (char& c : name) {
        c = std::isalnum(static_cast<unsigned char>(c))
                ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                : '_';
    }
    return name;
}

std::exception_ptr from_code(unsigned long error) {
    std::string library = library_name(error);
    const char* text = ERR_reason_error_string(error);
    std::string said = text ? text : "unknown error";
    // An entry like "PEM lib" only passes on another library's error.
    std::string reason = ERR_GET_REASON(error) & ERR_RFLAG_COMMON ? "" : reason_name(text);
    std::string where = library.empty()  ? ""
                        : reason.empty() ? fmt::format("[{}] ", library)
                                         : fmt::format("[{}: {}] ", library, reason);
    return std::make_exception_ptr(SslError(where + said, library, reason));
}

std::string verify_text(const SslObjectState& object, long code) {
    switch (code) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
            return fmt::format("Hostname mismatch, certificate is not valid for '{}'.",
                               object.server_hostname);
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
            return fmt::format("IP address mismatch, certificate is not valid for '{}'.",
                               object.server_hostname);
        default:
            return X509_verify_cert_error_string(code);
    }
}

}  // namespace

std::exception_ptr take_ssl_error(const std::string& filename) {
    unsigned long last = ERR_peek_last_error();
    int errnum = 0;
    while (unsigned long error = ERR_get_error()) {
        if (ERR_SYSTEM_ERROR(error)) errnum = ERR_GET_REASON(error);
    }
    if (errnum != 0) {
        std::string text = std::generic_category().message(errnum);
        return make_os_error(errnum, filename.empty() ? text : fmt::format("{}: '{}'", text, filename));
    }
    if (last == 0) return std::make_exception_ptr(SslError("A failure in the SSL library occurred"));
    return from_code(last);
}

void throw_ssl_error(const std::string& filename) { std::rethrow_exception(take_ssl_error(filename)); }

std::exception_ptr take_connection_error(const SslObjectState& object, int result) {
    unsigned long error = ERR_peek_last_error();
    ERR_clear_error();
    if (object.callback_error) return object.callback_error;
    if (result == SSL_ERROR_ZERO_RETURN) return std::make_exception_ptr(SslZeroReturnError());
    if (error == 0) {
        return result == SSL_ERROR_SYSCALL
                   ? std::make_exception_ptr(SslEofError())
                   : std::make_exception_ptr(SslError("A failure in the SSL library occurred"));
    }
    if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
        switch (ERR_GET_REASON(error)) {
            case SSL_R_UNEXPECTED_EOF_WHILE_READING:
                return std::make_exception_ptr(SslEofError());
            case SSL_R_PROTOCOL_IS_SHUTDOWN:
                return std::make_exception_ptr(SslZeroReturnError());
            case SSL_R_CERTIFICATE_VERIFY_FAILED: {
                long code = SSL_get_verify_result(object.ssl.get());
                return std::make_exception_ptr(
                    SslCertVerificationError(static_cast<int>(code), verify_text(object, code)));
            }
            default:
                break;
        }
    }
    return from_code(error);
}

}  // namespace coil::detail
