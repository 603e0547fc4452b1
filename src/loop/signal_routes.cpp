#include "loop/signal_routes.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <vector>

#include "coil/exceptions.hpp"

namespace coil::detail {

namespace {

constexpr int SIGNALS = 65;

struct Listener {
    std::shared_ptr<Inbox> inbox;
    WhenStuck when_stuck;
};

struct Route {
    // The last listener's, for the signal handler.
    std::atomic<Inbox*> inbox{nullptr};
    std::atomic<WhenStuck> when_stuck{WhenStuck::NOTE_IT};
    std::vector<Listener> listeners;
    struct sigaction before{};

    void point_at_last() noexcept {
        when_stuck.store(listeners.empty() ? WhenStuck::NOTE_IT : listeners.back().when_stuck,
                         std::memory_order_relaxed);
        inbox.store(listeners.empty() ? nullptr : listeners.back().inbox.get(), std::memory_order_seq_cst);
    }
};

std::array<Route, SIGNALS> routes;
/// Threads that are in note() now. An inbox that has lost its route may go when there are none: a signal may be handled by another
/// thread. ORDER: a handler counts itself, then looks for the inbox; who takes the inbox away looks at the count after that.
std::atomic<unsigned> handling{0};

void note(int signal_number) {
    handling.fetch_add(1, std::memory_order_seq_cst);
    Route& route = routes[static_cast<std::size_t>(signal_number)];
    if (Inbox* inbox = route.inbox.load(std::memory_order_seq_cst)) {
        unsigned unseen = inbox->note_signal(signal_number);
        if (unseen > 2 && route.when_stuck.load(std::memory_order_relaxed) == WhenStuck::END_THE_PROCESS) {
            // The loop is stuck and somebody insists: what would have happened without coil.
            ::signal(signal_number, SIG_DFL);
            ::raise(signal_number);
        }
    }
    handling.fetch_sub(1, std::memory_order_seq_cst);
}

void wait_for_handlers() noexcept {
    while (handling.load(std::memory_order_seq_cst) > 0) ::sched_yield();
}

void watch_forks() {
    // A child has none of the threads that were in note().
    static const int registered =
        ::pthread_atfork(nullptr, nullptr, [] { handling.store(0, std::memory_order_relaxed); });
    static_cast<void>(registered);
}

}  // namespace

void route_signal(int signal_number, std::shared_ptr<Inbox> inbox, WhenStuck when_stuck) {
    watch_forks();
    Route& route = routes[static_cast<std::size_t>(signal_number)];
    route.listeners.push_back({std::move(inbox), when_stuck});
    route.point_at_last();
    if (route.listeners.size() > 1) return;
    struct sigaction action{};
    action.sa_handler = &note;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    if (::sigaction(signal_number, &action, &route.before) == 0) return;
    int error = errno;
    route.listeners.pop_back();
    route.point_at_last();
    throw_os_error(error);
}

void unroute_signal(int signal_number, const Inbox& inbox, WhenStuck when_stuck) noexcept {
    Route& route = routes[static_cast<std::size_t>(signal_number)];
    auto found = std::ranges::find_if(route.listeners, [&](const Listener& listener) {
        return listener.inbox.get() == &inbox && listener.when_stuck == when_stuck;
    });
    if (found == route.listeners.end()) return;
    Listener former = std::move(*found);
    route.listeners.erase(found);
    if (route.listeners.empty()) ::sigaction(signal_number, &route.before, nullptr);
    route.point_at_last();
    wait_for_handlers();
}

bool has_default_action(int signal_number) noexcept {
    struct sigaction action{};
    return ::sigaction(signal_number, nullptr, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
           action.sa_handler == SIG_DFL;
}

}  // namespace coil::detail
