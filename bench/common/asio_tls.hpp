// What an Asio server does differently over TLS: the context, the handshake, the goodbye.
#pragma once

#include "asio.hpp"

#include <boost/asio/ssl.hpp>

#include <type_traits>

/// `certificate`: a PEM file with the key in it.
inline asio::ssl::context server_context(const char* certificate) {
    asio::ssl::context context(asio::ssl::context::tls_server);
    context.use_certificate_chain_file(certificate);
    context.use_private_key_file(certificate, asio::ssl::context::pem);
    return context;
}

template <class Stream>
inline constexpr bool IS_TLS = false;
template <class Socket>
inline constexpr bool IS_TLS<asio::ssl::stream<Socket>> = true;
