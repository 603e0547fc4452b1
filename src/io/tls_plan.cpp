#include "io/tls_plan.hpp"

#include "coil/exceptions.hpp"

namespace coil::detail {

std::optional<TlsSettings> TlsPlan::settings(const std::string& host) const {
    if (!context) {
        if (server_hostname) throw ValueError("server_hostname is only meaningful with ssl");
        if (session) throw ValueError("session is only meaningful with ssl");
        if (handshake_timeout) throw ValueError("ssl_handshake_timeout is only meaningful with ssl");
        if (shutdown_timeout) throw ValueError("ssl_shutdown_timeout is only meaningful with ssl");
        return std::nullopt;
    }
    if (!server_side && !server_hostname && host.empty())
        throw ValueError("You must set server_hostname when using ssl without a host");
    TlsSettings settings{.context = *context, .server_side = server_side, .session = session};
    if (!server_side) settings.server_hostname = server_hostname.value_or(host);
    if (handshake_timeout) settings.handshake_timeout = *handshake_timeout;
    if (shutdown_timeout) settings.shutdown_timeout = *shutdown_timeout;
    return settings;
}

}  // namespace coil::detail
