#pragma once

// `async with`. A context manager is any type with
//     aenter()                       giving an awaitable of V, or enter() giving V without waiting, and
//     aexit(std::exception_ptr)      giving an awaitable of bool or void, or exit(std::exception_ptr) without waiting.
// The exit runs whether the body returned, threw (the exception is given to it) or was cancelled. If it gives true, the
// body's exception ends there; if it throws, its exception replaces the body's.

#include <concepts>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/box.hpp"
#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

template <class CM>
concept WaitsToEnter = requires(CM& cm) { cm.aenter(); };
template <class CM>
concept WaitsToExit = requires(CM& cm, std::exception_ptr error) { cm.aexit(error); };
template <class CM>
concept ContextManager = (WaitsToEnter<CM> || requires(CM& cm) { cm.enter(); }) &&
                         (WaitsToExit<CM> || requires(CM& cm, std::exception_ptr error) { cm.exit(error); });

template <class CM>
struct EnteredType {
    using type = decltype(std::declval<CM&>().enter());
};
template <WaitsToEnter CM>
struct EnteredType<CM> {
    using type = AwaitResult<decltype(std::declval<CM&>().aenter())>;
};
template <class CM>
using Entered = typename EnteredType<CM>::type;

template <class Body, class V>
auto call_body(Body& body, Box<V>& value) {
    if constexpr (std::is_void_v<V>) {
        return body();
    } else if constexpr (std::invocable<Body&, std::remove_reference_t<V>&>) {
        return body(value.get());
    } else {
        return body();
    }
}
template <class Body, class CM>
using WithResult = AwaitResult<decltype(call_body(std::declval<Body&>(), std::declval<Box<Entered<CM>>&>()))>;

// CM and Body are reference types for lvalues and value types for rvalues, which then live in this frame.
template <class CM, class Body, class Manager = std::remove_reference_t<CM>,
          class R = WithResult<Body, Manager>>
Coro<R> run_with(CM cm, Body body) {
    Box<Entered<Manager>> value;
    if constexpr (WaitsToEnter<Manager>) {
        if constexpr (std::is_void_v<Entered<Manager>>) {
            co_await cm.aenter();
        } else {
            value.emplace(co_await cm.aenter());
        }
    } else if constexpr (std::is_void_v<Entered<Manager>>) {
        cm.enter();
    } else {
        value.emplace(cm.enter());
    }

    std::exception_ptr error;
    std::optional<Outcome<std::remove_cvref_t<R>>> outcome;
    try {
        outcome.emplace(co_await try_await(call_body(body, value)));
        error = outcome->exception();
    } catch (...) {  // a body that throws before it is a coroutine
        error = std::current_exception();
    }

    bool swallowed = false;
    if constexpr (WaitsToExit<Manager>) {
        if constexpr (std::is_void_v<AwaitResult<decltype(cm.aexit(error))>>) {
            co_await cm.aexit(error);
        } else {
            swallowed = co_await cm.aexit(error);
        }
    } else if constexpr (std::is_void_v<decltype(cm.exit(error))>) {
        cm.exit(error);
    } else {
        swallowed = cm.exit(error);
    }

    if (error && !swallowed) std::rethrow_exception(error);
    if constexpr (!std::is_void_v<R>) {
        if (!error) co_return std::move(*outcome).value();
        if constexpr (std::default_initializable<R>) {
            co_return R{};
        } else {
            throw RuntimeError(
                "async_with: the context manager swallowed the body's exception, so there is no result");
        }
    }
}

}  // namespace detail

/// Enters `cm`, runs `body(value)` (or `body()`), exits, and gives the body's result. Lvalues are referred to and must outlive
/// the call; rvalues are kept in it.
template <class CM, class Body>
    requires detail::ContextManager<std::remove_reference_t<CM>>
auto async_with(CM&& cm, Body&& body) {
    return detail::run_with<CM, Body>(std::forward<CM>(cm), std::forward<Body>(body));
}

}  // namespace coil
