// stop(): the current batch completes; callbacks that it scheduled wait for the next run; stop() before run_forever()
// gives exactly one iteration.

#include "scenario.hpp"

namespace conformance {

SCENARIO("006_stop_semantics") {
    auto loop = new_loop();
    auto stop = [&] { loop->stop(); };

    loop->call_soon([&] {
        print("first");
        loop->stop();
        loop->call_soon(print, "scheduled after stop: next run");
    });
    loop->call_soon(print, "second: same batch, still runs");
    loop->run_forever();
    print("-- run 1 returned");

    loop->call_soon(stop);
    loop->run_forever();
    print("-- run 2 returned");

    loop->call_soon([&] {
        print("a");
        loop->call_soon(print, "child of a: not in this run");
    });
    loop->stop();  // before run_forever
    print("running", yn(loop->is_running()));
    loop->run_forever();
    print("-- run 3 returned after a single iteration");

    loop->stop();
    loop->run_forever();
    print("-- run 4 returned");

    loop->call_later(20ms, stop);
    loop->call_later(5s, print, "timer after stop must not run");
    loop->run_forever();
    print("-- run 5 returned");
    loop->close();
    print("closed", yn(loop->is_closed()));
}

}  // namespace conformance
