// Compiled as C++23, which alone can make such a string: see CMakeLists.txt. Its text wants the bytes to be set before the
// function returns; the libraries give what they have, and nobody reads a byte before it is received.

#include "io/uninitialized_string.hpp"

namespace coil::detail {

std::string uninitialized_string(std::size_t size) {
    std::string string;
    string.resize_and_overwrite(size, [](char*, std::size_t all) { return all; });
    return string;
}

}  // namespace coil::detail
