#pragma once

#include <string>
#include <typeinfo>

namespace coil::detail {

/// From a compiler's name, as of `std::type_info`, to the one written in C++.
std::string demangle(const char* name);
/// The type's name as written in C++.
std::string type_name(const std::type_info& type);
/// The same without namespaces.
std::string short_type_name(const std::type_info& type);

}  // namespace coil::detail
