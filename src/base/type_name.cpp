#include "base/type_name.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace coil::detail {

std::string demangle(const char* name) {
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                std::free);
    return status == 0 ? text.get() : name;
}

std::string type_name(const std::type_info& type) { return demangle(type.name()); }

std::string short_type_name(const std::type_info& type) {
    std::string name = type_name(type);
    std::size_t arguments = name.find('<');
    std::size_t colons = name.rfind("::", arguments);
    return colons == std::string::npos ? name : name.substr(colons + 2);
}

}  // namespace coil::detail
