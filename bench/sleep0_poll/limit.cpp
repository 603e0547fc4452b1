// One epoll_wait per turn.
#include "../common/limit.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "../common/bench.hpp"

limit::Detached take_turns(long turns) {
    for (long i = 0; i < turns; i++) co_await limit::Sleep0{};
}

void run_polling(int poller) {
    epoll_event events[64];
    while (!limit::ready.empty()) {
        limit::ready.run_turn();
        epoll_wait(poller, events, 64, 0);
    }
}

int main() {
    constexpr long TURNS = 2'000'000;
    int poller = epoll_create1(EPOLL_CLOEXEC);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    epoll_event interest{};
    interest.events = EPOLLIN;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest);

    take_turns(1000);
    run_polling(poller);
    double start = now_ns();
    take_turns(TURNS);
    run_polling(poller);
    report("sleep0_poll", "1", (now_ns() - start) / TURNS);
}
