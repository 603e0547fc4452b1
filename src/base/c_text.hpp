#pragma once

#include <string>

#include "coil/exceptions.hpp"

namespace coil::detail {

/// The text for a function of C, to which it would end at a NUL: "good.example\0.evil.example" is checked as one name and used
/// as another. ValueError for one with a NUL inside. Whatever the program gives goes through here, never through c_str().
inline const char* c_text(const std::string& text, const char* complaint = "embedded null character") {
    if (text.find('\0') != std::string::npos) throw ValueError(complaint);
    return text.c_str();
}

}  // namespace coil::detail
