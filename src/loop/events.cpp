#include "coil/events.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string>

#include "coil/log.hpp"
#include "loop/debug_log.hpp"
#include "loop/descriptors.hpp"
#include "loop/hooks.hpp"
#include "loop/inbox.hpp"
#include "loop/loop_list.hpp"
#include "loop/run_watch.hpp"
#include "loop/tracer.hpp"
#include "platform/poller.hpp"

namespace coil {

namespace detail {

LoopCore::LoopCore() : inbox(std::make_shared<Inbox>()) { list_loop(*this); }
LoopCore::~LoopCore() { unlist_loop(*this); }

constinit LoopHooks loop_hooks{};

void throw_nan_delay() { throw ValueError("a delay must be a number: got nan"); }

}  // namespace detail

namespace {

std::unique_ptr<detail::Poller> poller_for(Backend backend) {
    switch (backend) {
        case Backend::URING:
            return detail::make_poller("uring");
        case Backend::EPOLL:
            return detail::make_poller("epoll");
        case Backend::AUTO:
            break;
    }
    const char* wanted = std::getenv("COIL_BACKEND");
    return detail::make_poller(wanted ? wanted : "");
}

bool debug_wanted() {
    const char* value = std::getenv("COIL_DEBUG");
    return value && *value && std::string_view(value) != "0";
}

}  // namespace

EventLoop::EventLoop(Backend backend) : EventLoop(poller_for(backend)) {}

EventLoop::EventLoop(std::unique_ptr<detail::Poller> poller) {
    core_.poller = std::move(poller);
    core_.poller->attach_wakeup(core_.inbox->wakeup_fd());
    core_.anchor = detail::Ref<detail::LoopAnchor>(new detail::LoopAnchor{this});
    set_debug(debug_wanted());
    detail::debug_log(*this, LogLevel::DEBUG_, [&] { return fmt::format("Using backend: {}", backend()); });
}

EventLoop::~EventLoop() {
    if (!is_closed()) {
        log(LogLevel::WARNING, "unclosed event loop: call close() before it is destroyed");
        core_.running = false;
        close();
    }
    core_.destroying = true;
    if (detail::loop_hooks.destroy_tasks) detail::loop_hooks.destroy_tasks(*this);
    core_.anchor->loop = nullptr;
}

std::string Handle::describe() const { return state_ ? state_->describe("Handle") : "<Handle empty>"; }

std::string TimerHandle::describe() const {
    if (!state_) return "<TimerHandle empty>";
    return state_->describe(fmt::format("TimerHandle at {:.3f}s",
                                        std::chrono::duration<double>(when_.time_since_epoch()).count()));
}

std::string EventLoop::describe() const {
    return fmt::format("<EventLoop {}, {}{}>", backend(),
                       is_closed()    ? "closed"
                       : is_running() ? "running"
                                      : "not running",
                       core_.debug ? ", debug" : "");
}

std::string_view EventLoop::backend() const noexcept { return core_.poller->name(); }
TimePoint EventLoop::time() const { return core_.poller->now(); }

// ---- running

namespace {

/// Marks a loop as the one that runs in this thread, for the time of a run.
class RunningScope {
  public:
    explicit RunningScope(EventLoop& loop) : core_(loop.core()) {
        core_.thread.store(detail::thread_id(), std::memory_order_relaxed);
        core_.running.store(true, std::memory_order_relaxed);
        detail::thread_state.loop = &loop;
    }
    ~RunningScope() {
        core_.poller->settle();
        while (detail::Watch* watch = core_.poller->take_ready()) watch->notify(*watch);
        core_.stopping = false;
        core_.running.store(false, std::memory_order_relaxed);
        detail::thread_state.loop = nullptr;
    }
    RunningScope(const RunningScope&) = delete;
    RunningScope& operator=(const RunningScope&) = delete;

  private:
    detail::LoopCore& core_;
};

}  // namespace

void EventLoop::check_can_run() const {
    check_closed();
    if (is_running()) throw RuntimeError("This event loop is already running");
    if (detail::thread_state.loop)
        throw RuntimeError("Cannot run the event loop while another loop is running");
}

void EventLoop::run_forever() {
    check_can_run();
    if (!std::exchange(core_.has_run, true)) detail::trace_by_environment(*this);
    RunningScope running(*this);
    run_turns();
}

void EventLoop::run_turns() {
    do {
        run_once();
    } while (!core_.stopping);
    core_.poller->flush();
}

inline void EventLoop::fill_queue() {
    if (core_.ready.empty() || core_.poller->watching() || !core_.inbox->empty()) poll();  // 1 and 2
    if (!core_.timers.empty()) queue_due_timers();                                         // 3
}

namespace {

constexpr unsigned LONG_BATCH = 32;

}  // namespace

// One turn, in the order that ARCHITECTURE.md describes under the same numbers.
void EventLoop::run_once() {
    if (core_.watched) [[unlikely]]
        return run_once_watched();
    fill_queue();  // 1, 2 and 3

    detail::ReadyQueue& ready = core_.ready;
    detail::Runnable* last = ready.back();  // 4
    unsigned count = 0;
    while (last) {  // 5
        detail::Runnable& next = ready.pop();
        // The node may be gone or queued again once it has run.
        if (&next == last) last = nullptr;
        next.function_(next, detail::Runnable::How::RUN);
        ++count;
    }
    core_.busy_turn = count >= LONG_BATCH;
}  // 6: run_turns() looks at the stop flag

/// The same in debug mode, and for a trace.
void EventLoop::run_once_watched() {
    if (core_.tracer && !core_.tracer->active()) stop_tracing();
    bool sleeps = core_.ready.empty() && !core_.stopping;
    auto began = detail::Tracer::Clock::now();
    fill_queue();
    if (sleeps && core_.tracer) core_.tracer->slept(began, detail::Tracer::Clock::now());

    detail::RunWatch watch(core_, slow_callback_duration);
    detail::Runnable* last = core_.ready.back();
    unsigned count = 0;
    while (last) {
        detail::Runnable& next = core_.ready.pop();
        if (&next == last) last = nullptr;
        watch.begin(next);
        next.function_(next, detail::Runnable::How::RUN);
        watch.end();
        ++count;
    }
    core_.busy_turn = count >= LONG_BATCH;
}

void EventLoop::poll() {
    detail::Inbox& inbox = *core_.inbox;
    detail::Poller& poller = *core_.poller;
    if (core_.ready.empty() && !core_.stopping && inbox.prepare_sleep()) {
        try {
            poller.wait(core_.timers.empty() ? TimePoint::max() : core_.timers.next());
        } catch (...) {
            inbox.awake();
            throw;
        }
        inbox.awake();
    } else {
        poller.look(core_.busy_turn);
    }
    while (detail::Watch* watch = poller.take_ready()) watch->notify(*watch);
    if (!inbox.empty()) {
        inbox.take(core_.ready);
        if (std::uint64_t signals = inbox.take_signals()) {
            std::uint64_t handled = detail::loop_hooks.signals(*this, signals);
            unsigned interrupts = inbox.take_interrupts();
            constexpr std::uint64_t SIGINT_BIT = std::uint64_t{1} << (SIGINT - 1);
            if (interrupts && !(handled & SIGINT_BIT) && detail::loop_hooks.interrupt)
                detail::loop_hooks.interrupt(*this, interrupts);
        }
    }
}

void EventLoop::queue_due_timers() { core_.timers.pop_due(time(), core_.ready); }

void EventLoop::stop() { core_.stopping = true; }

void EventLoop::close() {
    if (is_running()) throw RuntimeError("Cannot close a running event loop");
    if (is_closed()) return;
    detail::debug_log(*this, LogLevel::DEBUG_, [&] { return "Close " + describe(); });
    stop_tracing();
    core_.closed.store(true, std::memory_order_relaxed);
    drop_everything();
}

void EventLoop::drop_everything() {
    core_.inbox->close();
    if (core_.had_signal_handlers) detail::loop_hooks.closing(*this);
    // Dropping a callback may destroy what cancels timers or handles, so each is unlinked before it goes.
    while (detail::Timer* timer = core_.timers.pop_any()) {
        timer->function_(*timer, detail::Runnable::How::DISCARD);
    }
    core_.ready.discard();
    while (detail::LoopResource* resource = core_.resources.front()) {
        resource->unlink();
        resource->loop_closed();
    }
    core_.descriptors.reset();
    core_.poller->flush();  // what was closed is to be closed for its peers, too
    core_.task_factory = nullptr;
}

// ---- callbacks

void EventLoop::check_closed() const {
    if (is_closed()) throw RuntimeError("Event loop is closed");
}

void EventLoop::misused() const {
    check_closed();
    throw RuntimeError(
        "Non-thread-safe operation invoked on an event loop other than the current one: "
        "use call_soon_threadsafe() from other threads");
}

Handle EventLoop::post(detail::Ref<detail::CallbackBase> callback) {
    callback->mark_shared();
    if (detail::thread_state.loop == this) return queue(std::move(callback));  // in order with call_soon
    callback->retain();                                                        // the inbox's
    if (!core_.inbox->push(*callback)) {
        callback->release();
        throw RuntimeError("Event loop is closed");
    }
    return Handle(std::move(callback));
}

TimerHandle EventLoop::schedule(TimePoint when, detail::Ref<detail::CallbackBase> callback) {
    if (core_.debug) callback->keep_creation_place();
    core_.timers.add(when, *callback);
    callback->retain();  // the heap's, later the ready queue's
    return TimerHandle(std::move(callback), when);
}

// ---- errors

void ExceptionDetails::emplace(std::string_view key, std::string text) {
    auto place = std::ranges::lower_bound(facts_, key, {}, &value_type::first);
    if (place == facts_.end() || place->first != key) facts_.emplace(place, key, std::move(text));
}

std::vector<ExceptionDetails::value_type>::const_iterator ExceptionDetails::find(
    std::string_view key) const noexcept {
    auto place = std::ranges::lower_bound(facts_, key, {}, &value_type::first);
    return place != facts_.end() && place->first == key ? place : facts_.end();
}

const std::string& ExceptionDetails::at(std::string_view key) const {
    auto place = find(key);
    if (place == end()) throw LookupError("an exception handler was not told '" + std::string(key) + "'");
    return place->second;
}

void EventLoop::default_exception_handler(const ExceptionContext& context) {
    std::string text = context.message.empty() ? "Unhandled exception in event loop" : context.message;
    for (const auto& [key, value] : context.details) text += "\n" + key + ": " + value;
    if (context.exception) {
        auto* format = detail::loop_hooks.format_exception;
        text += "\n" + (format ? format(context) : describe_exception(context.exception));
    }
    log(LogLevel::ERROR_, text);
}

void EventLoop::call_exception_handler(const ExceptionContext& context) {
    auto by_default = [this](const ExceptionContext& what) {
        try {
            default_exception_handler(what);
        } catch (const KeyboardInterrupt&) {
            throw;
        } catch (...) {
            log(LogLevel::ERROR_,
                "Exception in default exception handler while handling an unexpected error: " +
                    describe_exception(std::current_exception()));
        }
    };
    if (!handler_) return by_default(context);
    try {
        ExceptionHandler handler = handler_;  // it may replace itself
        handler(*this, context);
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        by_default({.message = "Unhandled error in exception handler",
                    .exception = std::current_exception(),
                    .details = {{"context", context.message}}});
    }
}

}  // namespace coil
