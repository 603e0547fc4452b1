#include "loop/signal_routes.hpp"

#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "coil/exceptions.hpp"

namespace coil::detail {

namespace {

constexpr int SIGNALS = 65;

struct Route {
    std::atomic<Inbox*> inbox{nullptr};
    std::shared_ptr<Inbox>
        owner;  // keeps it while the handler may run; changed with the handler not installed
    unsigned users = 0;
    struct sigaction before{};
};

std::array<Route, SIGNALS> routes;

void note(int signal_number) {
    if (Inbox* inbox =
            routes[static_cast<std::size_t>(signal_number)].inbox.load(std::memory_order_acquire)) {
        unsigned unseen = inbox->note_signal(signal_number);
        if (signal_number == SIGINT && unseen > 2) {
            // The loop is stuck and somebody insists: what would have happened without coil.
            ::signal(SIGINT, SIG_DFL);
            ::raise(SIGINT);
        }
    }
}

}  // namespace

void route_signal(int signal_number, std::shared_ptr<Inbox> inbox) {
    Route& route = routes[static_cast<std::size_t>(signal_number)];
    if (route.users > 0) {
        ++route.users;
        route.inbox.store(inbox.get(), std::memory_order_release);
        route.owner.swap(inbox);
        return;
    }
    route.inbox.store(inbox.get(), std::memory_order_release);
    struct sigaction action{};
    action.sa_handler = &note;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    if (::sigaction(signal_number, &action, &route.before) < 0) {
        route.inbox.store(nullptr, std::memory_order_release);
        throw_os_error(errno);
    }
    route.owner = std::move(inbox);
    route.users = 1;
}

void unroute_signal(int signal_number) noexcept {
    Route& route = routes[static_cast<std::size_t>(signal_number)];
    if (route.users == 0 || --route.users > 0) return;
    ::sigaction(signal_number, &route.before, nullptr);
    route.inbox.store(nullptr, std::memory_order_release);
    route.owner.reset();
}

bool has_default_action(int signal_number) noexcept {
    struct sigaction action{};
    return ::sigaction(signal_number, nullptr, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
           action.sa_handler == SIG_DFL;
}

}  // namespace coil::detail
