#pragma once

#include <memory>

#include "platform/poller.hpp"

namespace coil::detail {

std::unique_ptr<Poller> make_epoll_poller();

}  // namespace coil::detail
