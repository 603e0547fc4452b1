// Debug mode: slow callbacks are logged, calls from the wrong thread raise.

#include <thread>

#include "scenario.hpp"

namespace conformance {

static void block(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

static Coro<> main(int& slow) {
    coil::EventLoop& loop = coil::get_running_loop();
    print("debug", loop.get_debug() ? "on" : "off", "threshold 100 ms",
          yn(loop.slow_callback_duration == 100ms));
    loop.slow_callback_duration = 200ms;
    co_await coil::sleep(0s);
    int before = slow;
    loop.call_soon(block, 300ms);
    loop.call_soon(block, 0ms);
    co_await coil::sleep(0s);
    co_await coil::sleep(0s);
    print("slow callbacks", slow - before);

    std::vector<std::string> errors;
    std::thread thread([&] {
        auto attempt = [&](auto call) {
            try {
                call();
                errors.push_back("no error");
            } catch (const coil::RuntimeError&) {
                errors.push_back("RuntimeError");
            }
        };
        attempt([&] { loop.call_soon(print); });
        attempt([&] { loop.call_later(1s, print); });
        loop.call_soon_threadsafe(print, "threadsafe call is fine");
    });
    thread.join();
    co_await coil::sleep(10ms);
    print("wrong thread:", join(errors));
    loop.set_debug(false);
    print("debug", loop.get_debug() ? "on" : "off");
}

SCENARIO("180_debug_mode") {
    int slow = 0;
    coil::set_log_handler([&slow](coil::LogLevel, std::string_view text) {
        slow += text.starts_with("Executing") && text.ends_with("seconds");
    });
    OnExit restore([] { coil::set_log_handler({}); });
    coil::run(main(slow), {.debug = true, .loop_factory = new_loop});
}

}  // namespace conformance
