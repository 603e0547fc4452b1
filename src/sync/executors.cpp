#include "coil/executors.hpp"

#include <fmt/format.h>

#include <atomic>

#include "coil/log.hpp"
#include "coil/timeouts.hpp"
#include "loop/hooks.hpp"
#include "sync/worker_pool.hpp"

namespace coil {

namespace {

class CallWork final : public detail::Work {
  public:
    explicit CallWork(std::shared_ptr<ExecutorCall> its_call) noexcept : call(std::move(its_call)) {}
    void work(std::shared_ptr<Work>) noexcept override { call->run(); }
    void refused() noexcept override {
        call->fail(std::make_exception_ptr(
            BrokenThreadPool("A thread initializer failed, the thread pool is not usable anymore")));
    }

    std::shared_ptr<ExecutorCall> call;
};

std::string names(std::string_view prefix) {
    static std::atomic<unsigned> pools{0};
    if (!prefix.empty()) return std::string(prefix);
    return fmt::format("pool-{}", pools.fetch_add(1, std::memory_order_relaxed));
}

std::size_t size(std::optional<std::size_t> max_workers) {
    if (max_workers == 0) throw ValueError("max_workers must be greater than 0");
    return max_workers.value_or(detail::WorkerPool::default_threads());
}

detail::WorkerPool::Begin begin_with(Function<void()> initializer) {
    if (!initializer) return nullptr;
    return [initialize = std::move(initializer)] {
        try {
            initialize();
            return true;
        } catch (...) {
            log(LogLevel::CRITICAL,
                "Exception in initializer:\n" + describe_exception(std::current_exception()));
            return false;
        }
    };
}

}  // namespace

ThreadPoolExecutor::ThreadPoolExecutor(std::optional<std::size_t> max_workers, ThreadPoolOptions options)
    : ThreadPoolExecutor(max_workers, Function<void()>(options.initializer), options.thread_name_prefix) {}

ThreadPoolExecutor::ThreadPoolExecutor(std::optional<std::size_t> max_workers, Function<void()> initializer,
                                       std::string_view thread_name_prefix)
    : pool_(std::make_unique<detail::WorkerPool>(size(max_workers), detail::WorkerPool::Signals::INHERITED,
                                                 names(thread_name_prefix),
                                                 begin_with(std::move(initializer)))) {}

ThreadPoolExecutor::~ThreadPoolExecutor() {
    try {
        if (!abandoned_) end({});
    } catch (const RuntimeError& e) {  // by the last of its own threads
        log(LogLevel::ERROR_, std::string("destroying a ThreadPoolExecutor: ") + e.what());
    }
    pool_->detach();
}

void ThreadPoolExecutor::execute(std::shared_ptr<ExecutorCall> call) {
    pool_->submit(std::make_shared<CallWork>(std::move(call)));
}

std::string ThreadPoolExecutor::describe() const {
    return "<ThreadPoolExecutor " + pool_->describe("threads") + ">";
}
bool ThreadPoolExecutor::of_this_process() const noexcept { return pool_->of_this_process(); }

void ThreadPoolExecutor::end(ShutdownOptions options) {
    pool_->close();
    if (options.cancel_futures) {
        for (const auto& work : pool_->take_queued()) static_cast<CallWork&>(*work).call->cancel();
    }
    abandoned_ = !options.wait;
    if (options.wait) pool_->join();
}

// ---- the loop's

namespace detail {

namespace {

class DefaultExecutor final : public LoopResource {
  public:
    DefaultExecutor(EventLoop& loop, std::shared_ptr<ThreadPoolExecutor> its_executor)
        : executor(std::move(its_executor)), core_(loop.core()) {
        core_.resources.push_back(*this);
    }
    void loop_closed() noexcept override {
        core_.default_executor = nullptr;
        executor->shutdown({.wait = false});
        delete this;
    }

    std::shared_ptr<ThreadPoolExecutor> executor;

  private:
    LoopCore& core_;
};

[[maybe_unused]] const bool hooked = [] {
    loop_hooks.shutdown_default_executor = [](EventLoop& loop, std::optional<Duration> timeout_after) {
        return loop.shutdown_default_executor(timeout_after);
    };
    return true;
}();

}  // namespace

Executor& default_executor(EventLoop& loop) {
    LoopCore& core = loop.core();
    if (core.executor_shut_down) throw RuntimeError("Executor shutdown has been called");
    auto* chosen = static_cast<DefaultExecutor*>(core.default_executor);
    if (!chosen || !chosen->executor->of_this_process()) {
        constexpr ThreadPoolOptions OPTIONS{.thread_name_prefix = "asyncio"};
        loop.set_default_executor(std::make_shared<ThreadPoolExecutor>(std::nullopt, OPTIONS));
    }
    return *static_cast<DefaultExecutor*>(core.default_executor)->executor;
}

}  // namespace detail

void EventLoop::set_default_executor(std::shared_ptr<ThreadPoolExecutor> executor) {
    check_usable();
    if (!executor) throw TypeError("executor must be ThreadPoolExecutor instance");
    if (core_.default_executor) {
        static_cast<detail::DefaultExecutor*>(core_.default_executor)->executor.swap(executor);
        if (executor.use_count() == 1) executor->shutdown({.wait = false});  // not to block the loop here
    } else {
        core_.default_executor = new detail::DefaultExecutor(*this, std::move(executor));
    }
}

Coro<> EventLoop::shutdown_default_executor(std::optional<Duration> timeout_after) {
    core_.executor_shut_down = true;
    if (!core_.default_executor) co_return;
    auto executor = static_cast<detail::DefaultExecutor*>(core_.default_executor)->executor;
    auto join = [executor] { executor->shutdown(); };
    bool in_time = true;
    try {
        co_await async_with(timeout(timeout_after), [&](Timeout&) -> Coro<> {
            co_await detail::in_worker("shutdown_default_executor", std::move(join));
        });
    } catch (const TimeoutError&) {
        in_time = false;
    }
    if (in_time) co_return;
    log(LogLevel::WARNING,
        fmt::format("The executor did not finishing joining its threads within {} seconds.",
                    std::chrono::duration<double>(*timeout_after).count()));
    executor->shutdown({.wait = false});
}

}  // namespace coil
