// sleep(0) while a descriptor is watched, so that the loop has a reason to ask the kernel.
#include <coil/coil.hpp>
#include <sys/eventfd.h>

#include "../common/bench.hpp"

using namespace std::chrono_literals;

coil::Coro<> take_turns(long turns) {
    for (long i = 0; i < turns; i++) co_await coil::sleep(0s);
}

coil::Coro<> measure() {
    constexpr long TURNS = 2'000'000;
    coil::EventLoop& loop = coil::get_running_loop();
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop.add_reader(fd, [] {});
    co_await take_turns(1000);
    double start = now_ns();
    co_await take_turns(TURNS);
    report("sleep0_poll", "1", (now_ns() - start) / TURNS);
    loop.remove_reader(fd);
    close(fd);
}

int main() { coil::run(measure()); }
