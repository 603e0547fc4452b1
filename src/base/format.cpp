#include "coil/format.hpp"

#include <fmt/format.h>

#include <utility>

// The header has only <fmt/core.h>, which declares this and does not define it.
template auto fmt::formatter<fmt::string_view>::format<fmt::format_context>(const fmt::string_view&,
                                                                            fmt::format_context&) const
    -> decltype(std::declval<fmt::format_context&>().out());
