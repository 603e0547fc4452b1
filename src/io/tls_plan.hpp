#pragma once

#include <optional>
#include <string>

#include "coil/ssl.hpp"
#include "io/tls_protocol.hpp"

namespace coil::detail {

/// What the options of a call say about TLS, copied when it is made and checked when it is awaited.
struct TlsPlan {
    /// From any of the options structs.
    template <class Options>
    static TlsPlan of(const Options& options, bool server_side) {
        TlsPlan plan;
        plan.server_side = server_side;
        if (options.ssl) plan.context = *options.ssl;
        if constexpr (requires { options.server_hostname; }) {
            if (options.server_hostname) plan.server_hostname = std::string(*options.server_hostname);
            if (options.session) plan.session = *options.session;
        }
        plan.handshake_timeout = options.ssl_handshake_timeout;
        plan.shutdown_timeout = options.ssl_shutdown_timeout;
        return plan;
    }

    /// Nothing if there is to be no TLS. `host`: what a client checks without a server_hostname. ValueError for options that do
    /// not go together.
    std::optional<TlsSettings> settings(const std::string& host = {}) const;

    std::optional<SslContext> context{};
    std::optional<std::string> server_hostname{};
    std::optional<SslSession> session{};
    std::optional<Duration> handshake_timeout{};
    std::optional<Duration> shutdown_timeout{};
    bool server_side = false;
};

}  // namespace coil::detail
