#pragma once

#include <string>
#include <vector>

#include "coil/coroutines.hpp"
#include "io/address.hpp"

namespace coil::detail {

/// The stream addresses of a host and port, in the resolver's order. Numeric hosts resolve at once; names in a thread of their
/// own, so that the loop goes on, and a cancelled wait is over at once. `passive`: for listening; an empty host is then every
/// interface. GaiError for a name that does not resolve.
Coro<std::vector<Address>> resolve(std::string host, int port, bool passive);

}  // namespace coil::detail
