#pragma once

// Errors as texts, so that a table of expectations can be read: "RuntimeError: Event loop is closed".

#include <exception>
#include <string>
#include <type_traits>
#include <utility>

#include "coil/coroutines.hpp"

namespace support {

/// The type without its namespace and, where it has one, its text; "nothing" for null.
std::string error_text(const std::exception_ptr& error);

/// What the call throws, as error_text() has it.
template <class F>
std::string thrown_by(F&& f) {
    try {
        static_cast<void>(std::forward<F>(f)());
    } catch (...) {
        return error_text(std::current_exception());
    }
    return "nothing";
}

/// What awaiting throws, as error_text() has it.
template <class A>
coil::Coro<std::string> thrown_by_await(A awaitable) {
    auto outcome = co_await coil::try_await(std::move(awaitable));
    co_return error_text(outcome.exception());
}

}  // namespace support
