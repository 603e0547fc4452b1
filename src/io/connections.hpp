#pragma once

#include <optional>
#include <string>

#include "coil/connections.hpp"
#include "io/tls_plan.hpp"

namespace coil::detail {

/// A transport over the socket, by TLS if there are settings, for the protocol of the factory; returns once connection_made was
/// called.
Coro<AnyConnected> connect_transport(EventLoop& loop, Socket socket, AnyProtocolFactory factory,
                                     std::optional<TlsSettings> tls);

/// A connected socket to the host, by what the options say.
Coro<Socket> connect_stream(std::string host, int port, ConnectionOptions options, std::string local_host);

/// One that is connected already.
Coro<Socket> given(Socket socket);

/// A connected socket to a path.
Coro<Socket> connect_unix(std::string path);

}  // namespace coil::detail
