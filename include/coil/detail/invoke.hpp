#pragma once

// std::invoke without <functional>, a heavy header for the one function.

#include <tuple>
#include <type_traits>
#include <utility>

namespace coil::detail {

/// std::invoke(f, args…). Pointers to members are called by std::apply, whose header knows how.
template <class F, class... Args>
constexpr decltype(auto) invoke(F&& f, Args&&... args) {
    if constexpr (std::is_member_pointer_v<std::remove_cvref_t<F>>) {
        return std::apply(std::forward<F>(f), std::forward_as_tuple(std::forward<Args>(args)...));
    } else {
        return std::forward<F>(f)(std::forward<Args>(args)...);
    }
}

}  // namespace coil::detail
