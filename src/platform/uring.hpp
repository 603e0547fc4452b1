#pragma once

#include <memory>

#include "platform/poller.hpp"

namespace coil::detail {

/// OSError where the kernel refuses a ring, or lacks what the poller needs (Linux 6.1).
std::unique_ptr<Poller> make_uring_poller();

}  // namespace coil::detail
