// add_signal_handler: the callbacks of signals. The signal itself arrives through the loop's inbox.

#include <array>
#include <bit>
#include <csignal>
#include <string>
#include <utility>

#include "coil/events.hpp"
#include "loop/hooks.hpp"
#include "loop/inbox.hpp"
#include "loop/signal_routes.hpp"

namespace coil {

namespace {

struct SignalHandler {
    EventLoop* loop = nullptr;
    detail::Ref<detail::CallbackBase> callback;
};

constexpr int SIGNALS = 65;
std::array<SignalHandler, SIGNALS> handlers;  // the main thread's; and of who closes a loop that had some

void check_signal(int signal_number) {
    if (signal_number < 1 || signal_number >= SIGNALS)
        throw ValueError("sig must be between 1 and 64, not " + std::to_string(signal_number));
}

void drop(int signal_number, SignalHandler handler) {
    detail::unroute_signal(signal_number, *handler.loop->core().inbox, detail::WhenStuck::NOTE_IT);
    handler.callback->cancel();
}

void drop_handler(int signal_number) {
    drop(signal_number, std::exchange(handlers[static_cast<std::size_t>(signal_number)], {}));
}

void queue_call(SignalHandler& handler) {
    if (handler.callback->queued_) return;
    handler.callback->queued_ = true;
    handler.callback->retain();
    handler.loop->core().ready.push(*handler.callback);
}

std::uint64_t queue_callbacks(EventLoop& loop, std::uint64_t bits) {
    std::uint64_t handled = 0;
    for (; bits; bits &= bits - 1) {
        SignalHandler& handler = handlers[static_cast<std::size_t>(std::countr_zero(bits) + 1)];
        if (handler.loop != &loop) continue;
        handled |= bits & -bits;
        queue_call(handler);
    }
    return handled;
}

void drop_handlers_of(EventLoop& loop) {
    for (int signal_number = 1; signal_number < SIGNALS; ++signal_number) {
        if (handlers[static_cast<std::size_t>(signal_number)].loop == &loop) drop_handler(signal_number);
    }
}

}  // namespace

void EventLoop::add_signal_callback(int signal_number, detail::Ref<detail::CallbackBase> callback) {
    check_signal(signal_number);
    if (!detail::in_main_thread())
        throw RuntimeError("add_signal_handler() may be called in the main thread only");
    if (signal_number == SIGKILL || signal_number == SIGSTOP)
        throw RuntimeError("sig " + std::to_string(signal_number) + " cannot be caught");
    detail::loop_hooks.signals = &queue_callbacks;
    detail::loop_hooks.closing = &drop_handlers_of;
    core_.had_signal_handlers = true;
    if (core_.debug) callback->keep_creation_place();
    try {
        detail::route_signal(signal_number, core_.inbox, detail::WhenStuck::NOTE_IT);
    } catch (const OSError& e) {
        throw RuntimeError("sig " + std::to_string(signal_number) + " cannot be caught: " + e.what());
    }
    SignalHandler& handler = handlers[static_cast<std::size_t>(signal_number)];
    SignalHandler former = std::exchange(handler, {this, std::move(callback)});
    if (!former.callback) return;
    if (former.loop == this && former.callback->queued_)
        queue_call(handler);  // the signal is the new handler's
    drop(signal_number, std::move(former));
}

bool EventLoop::remove_signal_handler(int signal_number) {
    check_signal(signal_number);
    if (!core_.had_signal_handlers || handlers[static_cast<std::size_t>(signal_number)].loop != this)
        return false;
    drop_handler(signal_number);
    return true;
}

}  // namespace coil
