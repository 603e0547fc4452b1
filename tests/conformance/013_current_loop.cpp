// set_event_loop, get_event_loop, get_running_loop, and a Runner with a loop factory.

#include "scenario.hpp"

namespace conformance {

static Coro<> check(coil::EventLoop& expected) {
    print("inside: running", yn(&coil::get_running_loop() == &expected), "current",
          yn(&coil::get_event_loop() == &expected));
    co_return;
}

static Coro<> which(coil::EventLoop& made) {
    print("factory loop is running", yn(&coil::get_running_loop() == &made));
    co_return;
}

SCENARIO("013_current_loop") {
    auto loop = new_loop();
    coil::set_event_loop(loop.get());
    print("get_event_loop returns the set loop", yn(&coil::get_event_loop() == loop.get()));
    loop->run_until_complete(check(*loop));
    auto other = new_loop();
    other->run_until_complete(check(*other));  // the running loop wins
    print("outside again", yn(&coil::get_event_loop() == loop.get()));

    coil::set_event_loop(nullptr);
    try {
        coil::get_event_loop();
        print("no error");
    } catch (const coil::RuntimeError&) {
        print("get_event_loop without a loop -> RuntimeError");
    }
    loop->close();
    other->close();

    std::vector<coil::EventLoop*> made;
    coil::Runner runner([&] {
        auto fresh = new_loop();
        made.push_back(fresh.get());
        return fresh;
    });
    coil::EventLoop& its_loop = runner.get_loop();
    print("made on entering", made.size());
    auto future = its_loop.create_future();
    runner.run(which(*made[0]));
    runner.run(which(*made[0]));
    runner.close();
    // A Runner owns its loop: a closed one is gone, and the futures made by it know that.
    bool closed = false;
    try {
        future.get_loop();
    } catch (const coil::RuntimeError&) {
        closed = true;
    }
    print("factory calls", made.size(), "closed", yn(closed));
}

}  // namespace conformance
