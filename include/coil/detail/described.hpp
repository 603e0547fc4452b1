#pragma once

// Which classes have `std::string describe() const`, a line for people, and that `<<` prints it. See format.hpp.

#include <iosfwd>
#include <string>

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
