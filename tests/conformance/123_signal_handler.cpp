// add_signal_handler: callbacks run in the loop, can be replaced and removed.

#include <unistd.h>

#include <csignal>

#include "scenario.hpp"

namespace conformance {

static void attempt(const char* label, int signal_number) {
    try {
        coil::get_running_loop().add_signal_handler(signal_number, print);
        print(label, "ok");
    } catch (const std::exception& e) {
        print(label, "->", name_of(e));
    }
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::Event got;
    auto on_signal = [&](const char* name) {
        print("handler", name);
        got.set();
    };

    loop.add_signal_handler(SIGUSR1, on_signal, "first");
    loop.add_signal_handler(SIGUSR1, on_signal, "second");  // replaces
    ::kill(::getpid(), SIGUSR1);
    print("sent; handler does not run inline");
    co_await got.wait();
    print("removed", yn(loop.remove_signal_handler(SIGUSR1)));
    print("removed again", yn(loop.remove_signal_handler(SIGUSR1)));

    auto stop = loop.create_future<std::string>();
    loop.add_signal_handler(SIGTERM, [&] { stop.set_result("SIGTERM"); });
    loop.call_later(20ms, ::kill, ::getpid(), SIGTERM);
    print("stopped by", co_await stop);
    loop.remove_signal_handler(SIGTERM);

    attempt("SIGKILL", SIGKILL);
    attempt("number 9999", 9999);
}

SCENARIO("123_signal_handler") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
