#include "coil/coroutines.hpp"

#include <fmt/format.h>

#include <string>

#include "coil/events.hpp"
#include "coil/log.hpp"

namespace coil::detail {

void report_never_awaited(const PromiseBase& promise) noexcept {
    if (!thread_state.loop || !thread_state.loop->get_debug()) return;
    const std::source_location& made = promise.where();
    try {
        log(LogLevel::WARNING, std::string("coroutine '") + made.function_name() +
                                   "' was never awaited (defined at " + made.file_name() + ":" +
                                   std::to_string(made.line()) + ")");
    } catch (...) {  // no memory for a warning
    }
}

std::string describe_coroutine(const PromiseBase* promise) {
    if (!promise) return "<Coro awaited>";
    const std::source_location& where = promise->where();
    return fmt::format("<Coro {} at {}:{}, not begun>", where.function_name(), where.file_name(),
                       where.line());
}

std::string describe_outcome(const std::exception_ptr& error) {
    if (!error) return "<Outcome finished>";
    return is_cancelled_error(error) ? "<Outcome cancelled>"
                                     : "<Outcome failed with " + describe_exception(error) + ">";
}

void throw_already_awaited() {
    throw RuntimeError(
        "cannot reuse already awaited coroutine: call the coroutine function again for a new one");
}

}  // namespace coil::detail
