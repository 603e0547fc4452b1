#include "coil/transports.hpp"

#include <any>

#include <fmt/format.h>

#include "coil/sockets.hpp"

namespace coil {

std::string BaseTransport::describe() const {
    auto peer = get_extra_info("peername");
    const auto* address = std::any_cast<SocketAddress>(&peer);
    auto pipe = get_extra_info("pipe");
    const auto* descriptor = std::any_cast<int>(&pipe);
    return fmt::format("<Transport {}{}>", is_closing() ? "closing" : "open",
                       address      ? " to " + to_string(*address)
                       : descriptor ? fmt::format(" on pipe {}", *descriptor)
                                    : std::string());
}

}  // namespace coil
