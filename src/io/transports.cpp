#include "coil/transports.hpp"

#include <fmt/format.h>

#include "coil/sockets.hpp"

namespace coil {

std::string BaseTransport::describe() const {
    auto peer = get_extra_info("peername");
    const auto* address = std::any_cast<SocketAddress>(&peer);
    return fmt::format("<Transport {}{}>", is_closing() ? "closing" : "open",
                       address ? " to " + to_string(*address) : std::string());
}

}  // namespace coil
