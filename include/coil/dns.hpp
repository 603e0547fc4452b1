#pragma once

// Names and addresses: what `loop.getaddrinfo` gives.

#include <string>

#include "coil/events.hpp"
#include "coil/sockets.hpp"

namespace coil {

/// One address of a name: `for (auto& [family, type, proto, canonname, address] : co_await loop.getaddrinfo("localhost", 80))`.
struct AddressInfo {
    int family = 0;
    int type = 0;
    int proto = 0;
    std::string canonname;  // with AI_CANONNAME, in the first one
    SocketAddress address;
};

}  // namespace coil
