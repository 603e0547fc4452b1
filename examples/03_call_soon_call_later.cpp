// Callbacks without coroutines: in which order the loop runs them.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string_view>

using namespace std::chrono_literals;

void say(std::string_view text) { fmt::print("{}\n", text); }

int main() {
    auto loop = coil::new_event_loop();

    loop->call_later(40ms, [&loop] {
        say("40 ms: stop");
        loop->stop();
    });
    loop->call_later(20ms, say, "20 ms");
    coil::TimerHandle never = loop->call_later(30ms, say, "never");

    coil::TimePoint when = loop->time() + 10ms;
    loop->call_at(when, say, "10 ms, registered first");
    loop->call_at(when, say, "10 ms, registered second");

    loop->call_soon([&loop] {
        say("first");
        loop->call_soon(say, "third: what a callback adds runs in the next turn");
    });
    loop->call_soon(say, "second");
    never.cancel();

    loop->run_forever();
    loop->close();
}
