#pragma once

// Between threads and loops: blocking calls beside a loop, and coroutines asked for by other threads.
//
//     std::string text = co_await to_thread(read_slowly, path);            // in a task
//     int n = run_coroutine_threadsafe(count(), loop).result(5s);          // in another thread

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include "coil/concurrent.hpp"
#include "coil/contextvars.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/future_chain.hpp"
#include "coil/events.hpp"
#include "coil/executors.hpp"

namespace coil {

/// Calls `f(args…)` in a thread of the loop's default executor, in a copy of the current context; gives what it returns, or throws
/// what it throws. A cancelled wait is over at once: a call that has not begun never does; one that runs goes on, and what it
/// throws later goes to the loop's exception handler. So `f` owns what it uses.
template <class F, class... Args>
    requires std::invocable<F, Args...>
Coro<std::invoke_result_t<F, Args...>> to_thread(F f, Args... args) {
    using R = std::invoke_result_t<F, Args...>;
    auto call = [context = copy_context(), f = std::move(f), ... args = std::move(args)]() mutable -> R {
        return context.run(std::move(f), std::move(args)...);
    };
    auto future = get_running_loop().run_in_executor(nullptr, std::move(call));
    co_return co_await std::move(future);
}

/// From any thread: runs the coroutine as a task of a loop that another thread runs. Cancelling the future cancels the task, and the
/// other way round; it is cancelled, too, if the loop closes first. RuntimeError if the loop is closed.
template <class T>
concurrent::Future<T> run_coroutine_threadsafe(Coro<T> coro, EventLoop& loop) {
    auto state = std::make_shared<detail::ConcurrentResult<T>>();
    state->computed_by(loop);
    loop.call_soon_threadsafe(detail::Submission<T>(std::move(coro), loop, state));
    return concurrent::Future<T>(std::move(state));
}

/// A future of the running loop's, or of `loop`, that ends as a concurrent one does; cancelling it cancels that. In the loop's
/// thread. The value is copied; one that cannot be is moved out.
template <class T>
Future<T> wrap_future(const concurrent::Future<T>& future, EventLoop* loop = nullptr) {
    EventLoop& its_loop = loop ? *loop : get_running_loop();
    return detail::chain_to_loop(future.state(), its_loop, detail::Give::COPY);
}
/// As asyncio's: one of a loop's comes back as it is.
template <class T>
Future<T> wrap_future(Future<T> future) {
    return future;
}

}  // namespace coil
