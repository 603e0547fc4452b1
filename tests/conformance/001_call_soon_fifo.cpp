// call_soon is FIFO; each callback runs exactly once; arguments are passed through.

#include "scenario.hpp"

namespace conformance {

SCENARIO("001_call_soon_fifo") {
    auto loop = new_loop();
    auto callback = [](const char* name) { print("cb", name); };

    for (const char* name : {"a", "b", "c", "d"}) loop->call_soon(callback, name);
    loop->call_soon(print, "multi", 1, 2, 3);
    loop->call_soon(&coil::EventLoop::stop, loop.get());
    loop->call_soon(callback, "after-stop-same-batch");
    print("before run");
    loop->run_forever();
    print("after run");
    loop->close();
}

}  // namespace conformance
