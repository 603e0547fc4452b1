// SIGTERM ends the service politely: no new jobs, those under way are finished, then the program returns.

#include <coil/coil.hpp>
#include <csignal>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::Coro<> job(int number) {
    fmt::print("job {} begins\n", number);
    co_await coil::sleep(200ms);
    fmt::print("job {} is finished\n", number);
}

coil::Coro<> accept_jobs(coil::TaskGroup& jobs) {
    for (int number = 1;; ++number) {
        jobs.create_task(job(number));
        co_await coil::sleep(1h);
    }
}

coil::Coro<> service() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::Event stop;
    // The handler runs in the loop like any callback: unlike a bare signal handler, it may do anything.
    loop.add_signal_handler(SIGTERM, [&stop] {
        fmt::print("SIGTERM: shutting down\n");
        stop.set();
    });
    loop.call_later(20ms, [] { std::raise(SIGTERM); });  // in a real program, the service manager does this

    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& jobs) -> coil::Coro<> {
        coil::Task<> accepting = jobs.create_task(accept_jobs(jobs));
        co_await stop.wait();
        accepting.cancel();  // a cancelled child is no error of its group
        fmt::print("waiting for what is under way\n");
    });
    loop.remove_signal_handler(SIGTERM);
    fmt::print("goodbye\n");
}

int main() { coil::run(service()); }
