// Done callbacks are never called inline: they go through call_soon, in order of registration; removal counts them;
// callbacks of a future that is done.

#include "scenario.hpp"

namespace conformance {

using Result = coil::Future<std::string>;

static void cb1(Result future) { print("cb1", future.result()); }
static void cb2(Result future) { print("cb2", future.result()); }
static void cb3(Result future) { print("cb3", future.result()); }

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto f = loop.create_future<std::string>();
    f.add_done_callback(cb1);
    f.add_done_callback(cb2);
    f.add_done_callback(cb3);
    f.add_done_callback(cb2);
    f.add_done_callback(cb1);
    print("removed cb2", f.remove_done_callback(cb2));
    print("removed again", f.remove_done_callback(cb2));
    loop.call_soon(print, "queued before set_result");
    f.set_result("R");
    loop.call_soon(print, "queued after set_result");
    print("set_result returned, nothing called yet");
    co_await coil::sleep(0s);
    print("-- late registration");
    f.add_done_callback(cb3);
    print("not called inline");
    print("remove after done", f.remove_done_callback(cb3));
    co_await coil::sleep(0s);

    auto g = loop.create_future();
    g.add_done_callback(
        [](coil::Future<> future) { print("cancel callback, cancelled", yn(future.cancelled())); });
    g.cancel();
    print("cancel returned");
    co_await coil::sleep(0s);
    print("end");
}

SCENARIO("021_future_callbacks") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
