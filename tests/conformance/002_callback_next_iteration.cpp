// Callbacks scheduled by callbacks run in the next iteration, after the whole current batch.

#include "scenario.hpp"

namespace conformance {

static void outer(coil::EventLoop* loop, const char* name, int depth) {
    print("run", name, "depth", depth);
    if (depth < 3) loop->call_soon(outer, loop, name, depth + 1);
}

SCENARIO("002_callback_next_iteration") {
    auto loop = new_loop();
    auto finish = [&] {
        print("finish");
        loop->stop();
    };

    loop->call_soon(outer, loop.get(), "a", 0);
    loop->call_soon(outer, loop.get(), "b", 0);
    loop->call_soon(outer, loop.get(), "c", 2);
    loop->call_later(50ms, finish);
    loop->run_forever();
    loop->close();
}

}  // namespace conformance
