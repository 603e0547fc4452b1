#pragma once

#include "coil/streams.hpp"

namespace support {

inline coil::Coro<> hang_up(coil::StreamWriter writer) {
    writer.close();
    co_await writer.wait_closed();
}

}  // namespace support
