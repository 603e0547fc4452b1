#pragma once

// What every scenario uses. A scenario is a small program that prints a trace; the .expected file of its name holds the
// trace of the same program on Python's asyncio, and check.py compares the two to the byte.
//
//     SCENARIO("001_call_soon_fifo") { coil::run(main(), {.loop_factory = new_loop}); }

#include <chrono>
#include <concepts>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "coil/coil.hpp"

namespace conformance {

using namespace std::chrono_literals;
using coil::Coro;

/// A loop on the backend that the program was started with; for `loop_factory`.
std::unique_ptr<coil::EventLoop> new_loop();
/// "epoll", "uring" or "virtual".
std::string_view backend();

struct Scenario {
    std::string_view name;
    void (*body)();
    std::string_view not_on_virtual;  // why it cannot run on virtual time; empty: it can
};

inline std::vector<Scenario>& scenarios() {
    static std::vector<Scenario> all;
    return all;
}

struct Registration {
    Registration(void (*body)(), std::string_view name, std::string_view not_on_virtual = {}) {
        scenarios().push_back({name, body, not_on_virtual});
    }
};

/// What print() writes for a value.
inline std::string to_text(std::string_view text) { return std::string(text); }
template <std::integral I>
std::string to_text(I number) {
    static_assert(!std::is_same_v<I, bool>, "print yn(flag)");
    return std::to_string(number);
}

std::string join(const std::vector<std::string>& texts, std::string_view separator = " ");
void print_line(std::vector<std::string> words);

/// Python's print(). An object, so that it can be given as a callback: `loop.call_soon(print, "text", 1)`.
struct Print {
    template <class... Args>
    void operator()(const Args&... args) const {
        print_line({to_text(args)...});
    }
};
inline constexpr Print print{};

constexpr const char* yn(bool flag) { return flag ? "yes" : "no"; }

/// The program's own error.
class AppError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The type of an exception as Python prints it: without a namespace.
std::string name_of(const std::exception_ptr& error);
std::string name_of(const std::exception& error);
/// Python's str(e).
std::string text_of(const std::exception_ptr& error);
/// The texts of a group's members.
std::string texts_of(const coil::ExceptionGroup& group);

/// A `finally` that awaits nothing; one that does is `coil::finally`.
template <class F>
class OnExit {
  public:
    explicit OnExit(F f) : f_(std::move(f)) {}
    ~OnExit() { f_(); }
    OnExit(const OnExit&) = delete;
    OnExit& operator=(const OnExit&) = delete;

  private:
    F f_;
};

}  // namespace conformance

/// SCENARIO(name) or SCENARIO(name, why it cannot run on virtual time); then the body. One per file.
#define SCENARIO(...)                                                                   \
    static void scenario_body();                                                        \
    static const ::conformance::Registration registration{&scenario_body, __VA_ARGS__}; \
    static void scenario_body()
