// SIGINT during run(): the main task is cancelled, run() throws KeyboardInterrupt; a main task that swallows the
// cancellation returns normally.

#include <unistd.h>

#include <csignal>

#include "scenario.hpp"

namespace conformance {

static Coro<std::string> polite() {
    auto slept = co_await coil::try_await(coil::sleep(10s));
    if (slept.cancelled()) {
        print("polite: CancelledError, cleaning");
        co_await coil::sleep(20ms);
        print("polite: cleaned");
    }
    slept.value();
    co_return "polite result";
}

static Coro<std::string> stubborn() {
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("stubborn: swallowed");
    }
    co_return "stubborn result";
}

static Coro<> background() {
    try {
        co_await coil::sleep(10s);
    } catch (const coil::CancelledError&) {
        print("background cancelled");
        throw;
    }
}

static Coro<std::string> with_background(Coro<std::string> (*main)()) {
    auto t = coil::create_task(background());
    coil::get_running_loop().call_later(30ms, ::kill, ::getpid(), SIGINT);
    std::string result = co_await main();
    t.cancel();
    co_return result;
}

SCENARIO("122_sigint") {
    // run() takes over a SIGINT that has its default action only; a shell may have started the program with SIGINT ignored.
    std::signal(SIGINT, SIG_DFL);

    for (auto* main : {polite, stubborn}) {
        try {
            print("run ->", coil::run(with_background(main), {.loop_factory = new_loop}));
        } catch (const coil::KeyboardInterrupt&) {
            print("run raised KeyboardInterrupt");
        }
    }
}

}  // namespace conformance
