// Compiled as C++23, which alone can make such a string: see CMakeLists.txt. The standard wants the bytes set before the lambda
// returns; the libraries take them as they are, and nobody reads a byte before it is received.

#include "io/uninitialized_string.hpp"

namespace coil::detail {

std::string uninitialized_string(std::size_t size) {
    std::string string;
    string.resize_and_overwrite(size, [](char*, std::size_t all) { return all; });
    return string;
}

}  // namespace coil::detail
