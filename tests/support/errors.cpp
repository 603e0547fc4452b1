#include "support/errors.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <typeinfo>

#include "coil/exceptions.hpp"

namespace support {

std::string error_text(const std::exception_ptr& error) {
    if (!error) return "nothing";
    const std::type_info& type = *error.__cxa_exception_type();
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> full(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                std::free);
    std::string name = status == 0 ? full.get() : type.name();
    if (auto colons = name.rfind("::"); colons != std::string::npos) name.erase(0, colons + 2);
    std::string text;
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        text = e.what();
    } catch (const coil::CancelledError& e) {
        text = e.message();
    } catch (...) {
    }
    return text.empty() ? name : name + ": " + text;
}

}  // namespace support
