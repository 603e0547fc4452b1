#pragma once

// Functions in other processes: for what computes much and may crash.
//
//     std::uint64_t count_primes(std::uint64_t below);
//
//     int main() {
//         coil::freeze_support();                // in a worker process: serves, and never returns
//         …
//         ProcessPoolExecutor pool(4);
//         auto n = co_await loop.run_in_executor(&pool, process_function<count_primes>, 1'000'000u);
//     }
//
// A worker is this program, started anew: it shares no memory, no thread and no lock with the parent, and inherits no descriptors but
// the standard streams. Arguments and results travel as bytes; they are what cereal can serialise, and a type of one's own needs
// a `serialize` function (https://uscilab.github.io/cereal). This is the only header that needs cereal: <coil/coil.hpp> leaves it out.

#include <cereal/archives/binary.hpp>
#include <cereal/types/array.hpp>
#include <cereal/types/chrono.hpp>
#include <cereal/types/map.hpp>
#include <cereal/types/memory.hpp>
#include <cereal/types/optional.hpp>
#include <cereal/types/set.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/tuple.hpp>
#include <cereal/types/unordered_map.hpp>
#include <cereal/types/utility.hpp>
#include <cereal/types/variant.hpp>
#include <cereal/types/vector.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coil/executors.hpp"

namespace coil {

/// First thing in `main`, before anything that must happen only once. Returns at once but in a worker process.
void freeze_support();

namespace detail {

/// Calls a function with encoded arguments; gives its encoded result.
using RemoteInvoker = std::string (*)(std::string_view arguments);
/// Before main. Two functions of one name can be called by neither.
bool register_process_function(const char* name, RemoteInvoker invoke);

template <class Archive, class... Ts>
void encode_values(std::string& bytes, const Ts&... values) {
    std::ostringstream stream;
    {
        Archive archive(stream);
        (archive(values), ...);
    }
    bytes = std::move(stream).str();
}

template <class T>
T decode_value(std::string_view bytes) {
    std::istringstream stream{std::string(bytes)};
    cereal::BinaryInputArchive archive(stream);
    std::remove_cvref_t<T> value{};
    archive(value);
    return value;
}

template <class Function>
struct FunctionTraits;
template <class R, class... Args>
struct FunctionTraits<R (*)(Args...)> {
    using Result = R;
    using Arguments = std::tuple<std::remove_cvref_t<Args>...>;
};
template <class R, class... Args>
struct FunctionTraits<R (*)(Args...) noexcept> : FunctionTraits<R (*)(Args...)> {};

}  // namespace detail

/// What `process_function<f>` is: calls `f`, here or in a worker process.
template <auto F>
class ProcessFunction {
    using Traits = detail::FunctionTraits<std::remove_cv_t<decltype(F)>>;
    using Result = typename Traits::Result;
    using Arguments = typename Traits::Arguments;

  public:
    template <class... Args>
        requires std::invocable<decltype(F), Args...>
    decltype(auto) operator()(Args&&... args) const {
        return std::invoke(F, std::forward<Args>(args)...);
    }

    // ---- for executors

    static std::string_view remote_name() noexcept {
        static_cast<void>(REGISTERED);  // makes the initialisation happen, before main
        return typeid(ProcessFunction).name();
    }
    template <class... Args>
    static void encode(std::string& bytes, const Args&... args) {
        static_assert(sizeof...(Args) == std::tuple_size_v<Arguments>,
                      "a function for another process needs all of its arguments");
        std::apply(
            [&](const auto&... converted) {
                detail::encode_values<cereal::BinaryOutputArchive>(bytes, converted...);
            },
            Arguments(args...));
    }
    template <class R>
    static R decode(std::string_view bytes) {
        return detail::decode_value<R>(bytes);
    }

  private:
    static std::string invoke(std::string_view bytes) {
        auto arguments = [&] {
            std::istringstream stream{std::string(bytes)};
            cereal::BinaryInputArchive archive(stream);
            Arguments decoded;
            std::apply([&](auto&... argument) { (archive(argument), ...); }, decoded);
            return decoded;
        }();
        std::string result;
        if constexpr (std::is_void_v<Result>) {
            std::apply(F, std::move(arguments));
        } else {
            detail::encode_values<cereal::BinaryOutputArchive>(result, std::apply(F, std::move(arguments)));
        }
        return result;
    }

    inline static const bool REGISTERED =
        detail::register_process_function(typeid(ProcessFunction).name(), &ProcessFunction::invoke);
};

/// A function that workers can call by its name. Not a lambda, nor one of an unnamed namespace that shares its name with another.
template <auto F>
inline constexpr ProcessFunction<F> process_function{};

/// A process_function without arguments.
class ProcessInitializer {
  public:
    constexpr ProcessInitializer() noexcept = default;
    template <auto F>
        requires std::invocable<decltype(F)>
    constexpr ProcessInitializer(ProcessFunction<F>) noexcept : name_(&ProcessFunction<F>::remote_name) {}

    constexpr explicit operator bool() const noexcept { return name_ != nullptr; }
    std::string_view name() const { return name_(); }

  private:
    std::string_view (*name_)() = nullptr;
};

struct ProcessPoolOptions {
    ProcessInitializer initializer{};  // called first in each worker; if it throws, the pool is broken
    std::optional<std::size_t> max_tasks_per_child{};  // a worker is replaced after so many calls
};

/// Worker processes, started as they are needed: an idle one is used before another is started. First come, first served.
///
/// What a function throws is thrown here: an exception of the standard library or of coil as what it was, with its message, any other
/// one as a RuntimeError with its type's name before the message. A worker that ends abruptly breaks the pool: every call that
/// has not ended fails with BrokenProcessPool.
class ProcessPoolExecutor final : public Executor {
  public:
    /// Nothing: as many workers as there are CPUs. ValueError for none. RuntimeError if `freeze_support()` was not called.
    explicit ProcessPoolExecutor(std::optional<std::size_t> max_workers = {},
                                 ProcessPoolOptions options = {});
    /// Waits as `shutdown()` does, unless there was a `shutdown({.wait = false})`.
    ~ProcessPoolExecutor() override;

    /// TypeError for a call of anything but a `process_function`; RuntimeError after `shutdown()`; BrokenProcessPool.
    void execute(std::shared_ptr<ExecutorCall> call) override;
    std::string describe() const override;
    /// SIGTERM, or SIGKILL, to all workers: breaks the pool.
    void terminate_workers();
    void kill_workers();

    /// For coil's own layers.
    struct State;

  private:
    void end(ShutdownOptions options) override;

    std::shared_ptr<State> state_;
    std::unique_ptr<detail::WorkerPool> pool_;
    std::atomic<bool> abandoned_{false};
};

}  // namespace coil
