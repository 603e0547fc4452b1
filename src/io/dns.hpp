#pragma once

#include <string>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/dns.hpp"
#include "coil/events.hpp"
#include "io/address.hpp"

namespace coil::detail {

struct ResolvedAddress {
    Address address;
    int type = 0;
    int proto = 0;
    std::string canonname;
};

/// The addresses of a host and port, in the resolver's order. Numeric hosts resolve at once; names in another thread, so that the
/// loop goes on, and a cancelled wait is over at once. GaiError for a name that does not resolve.
Coro<std::vector<ResolvedAddress>> resolve(EventLoop& loop, std::string host, Service port,
                                           AddressOptions options);

/// The same for stream sockets; `passive`: for listening, where an empty host is every interface.
Coro<std::vector<Address>> resolve_stream(EventLoop& loop, std::string host, int port, int family, int flags,
                                          bool passive);

}  // namespace coil::detail
