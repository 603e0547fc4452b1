#pragma once

// One-line descriptions of coil's objects, for people, through fmt:
//
//     fmt::print("{}\n", task);   // <Task 'fetch' waiting for Event.wait, created at fetch.cpp:12>
//
// `std::cout << queue` does the same without this header, which brings all of fmt and is therefore left out of coil.hpp.
// What they say may change from version to version. From the thread that the object belongs to.

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "coil/detail/described.hpp"

template <coil::Described T>
struct fmt::formatter<T> : fmt::formatter<std::string_view> {
    template <class FormatContext>
    auto format(const T& object, FormatContext& context) const {
        std::string text = object.describe();
        return fmt::formatter<std::string_view>::format(text, context);
    }
};
