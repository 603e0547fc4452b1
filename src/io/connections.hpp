#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coil/connections.hpp"
#include "io/address.hpp"

namespace coil::detail {

/// A transport over the socket for the protocol of the factory; returns once connection_made was called.
Coro<AnyConnected> connect_transport(EventLoop& loop, Socket socket, AnyProtocolFactory factory);

/// A connected socket to the host, by what the options say.
Coro<Socket> connect_stream(std::string host, int port, ConnectionOptions options, std::string local_host);

/// A connected socket to a path.
Coro<Socket> connect_unix(std::string path);

}  // namespace coil::detail
