#pragma once

#include <cstddef>
#include <string>

namespace coil::detail {

/// A string of this size whose bytes nobody has set yet: for what will be received into it.
std::string uninitialized_string(std::size_t size);

}  // namespace coil::detail
