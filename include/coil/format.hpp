#pragma once

// One-line descriptions of coil's objects, for people:
//
//     fmt::print("{}\n", task);   // <Task 'fetch' waiting for Event.wait, created at fetch.cpp:12>
//     std::cout << queue;         // <Queue 3 of 10 items>
//
// What they say may change from version to version. From the thread that the object belongs to.

#include <fmt/core.h>

#include <iosfwd>
#include <string>
#include <string_view>

namespace coil {

namespace detail {
/// True of classes of coil's with `std::string describe() const`.
template <class T>
inline constexpr bool DESCRIBED = false;
}  // namespace detail

template <class T>
concept Described = detail::DESCRIBED<T>;

template <class Traits, Described T>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, const T& object) {
    return out << object.describe();
}

}  // namespace coil

template <coil::Described T>
struct fmt::formatter<T> : fmt::formatter<std::string_view> {
    template <class FormatContext>
    auto format(const T& object, FormatContext& context) const {
        std::string text = object.describe();
        return fmt::formatter<std::string_view>::format(text, context);
    }
};
