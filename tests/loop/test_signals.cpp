#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

auto action_of(int number) {
    struct sigaction action{};
    ::sigaction(number, nullptr, &action);
    return action.sa_handler;
}

class Signals : public OnBackend {};
ON_EVERY_BACKEND(Signals);

}  // namespace

TEST_P(Signals, are_handled_in_the_loop_with_their_arguments) {
    Log log;
    loop().add_signal_handler(
        SIGUSR1,
        [&](std::string name) {
            log.push_back(name);
            EXPECT_EQ(&get_running_loop(), &loop());
            loop().stop();
        },
        "usr1");
    loop().call_soon([] { ::raise(SIGUSR1); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"usr1"}));
    loop().call_later(2ms, [] { ::kill(::getpid(), SIGUSR1); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"usr1", "usr1"}));
    EXPECT_TRUE(loop().remove_signal_handler(SIGUSR1));
    EXPECT_FALSE(loop().remove_signal_handler(SIGUSR1));
    EXPECT_EQ(action_of(SIGUSR1), SIG_DFL);
}

TEST_P(Signals, several_are_told_apart_and_come_in_order_of_their_number) {
    Log log;
    loop().add_signal_handler(SIGUSR2, [&] { log.push_back("usr2"); });
    loop().add_signal_handler(SIGUSR1, [&] { log.push_back("usr1"); });
    loop().call_soon([&] {
        ::raise(SIGUSR2);
        ::raise(SIGUSR1);
        ::raise(SIGUSR1);
    });
    loop().call_later(10ms, [&] { loop().stop(); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"usr1", "usr2"})) << "those of one turn are noted once";
}

TEST_P(Signals, adding_again_replaces_the_handler) {
    long before = Alive::count();
    Log log;
    loop().add_signal_handler(SIGUSR1, [&, alive = Alive()] { log.push_back("old"); });
    loop().add_signal_handler(SIGUSR1, [&, alive = Alive()] {
        log.push_back("new");
        loop().stop();
    });
    EXPECT_EQ(Alive::count(), before + 1);
    loop().call_soon([] { ::raise(SIGUSR1); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"new"}));
}

TEST_P(Signals, have_their_default_action_again_when_the_loop_closes) {
    auto other = make_loop();
    other->add_signal_handler(SIGUSR1, [] {});
    EXPECT_NE(action_of(SIGUSR1), SIG_DFL);
    other->close();
    EXPECT_EQ(action_of(SIGUSR1), SIG_DFL);
}

TEST_P(Signals, a_handler_may_remove_itself) {
    Log log;
    loop().add_signal_handler(SIGUSR1, [&] {
        log.push_back("once");
        loop().remove_signal_handler(SIGUSR1);
        ::signal(SIGUSR1, SIG_IGN);
        ::raise(SIGUSR1);
        loop().call_soon([&] { loop().stop(); });
    });
    loop().call_soon([] { ::raise(SIGUSR1); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"once"}));
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_P(Signals, do_not_interrupt_a_wait_of_the_loop_for_nothing) {
    Log log;
    loop().add_signal_handler(SIGUSR1, [&] { log.push_back("signal"); });
    loop().call_later(5ms, [] { ::kill(::getpid(), SIGUSR1); });
    TimePoint start = loop().time();
    loop().call_later(30ms, [&] {
        log.push_back("timer");
        loop().stop();
    });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"signal", "timer"}));
    EXPECT_GE(loop().time() - start, Duration(30ms));
}

TEST_P(Signals, SIGINT_in_a_run_can_be_taken_by_a_handler) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<int> {
            EventLoop& running = get_running_loop();
            Future<int> interrupted = running.create_future<int>();
            running.add_signal_handler(SIGINT, [interrupted]() mutable {
                if (!interrupted.done()) interrupted.set_result(6);
            });
            running.call_soon([] { ::raise(SIGINT); });
            int value = co_await interrupted;
            co_await sleep(1ms);
            co_return value;
        };
        return run(main(), {.loop_factory = factory()});
    });
    EXPECT_EQ(result.exit_code, 6) << result.output;
}

TEST_P(Signals, SIGINT_goes_to_the_handler_of_the_loop_outside_of_run) {
    ChildResult result = in_child([this] {
        auto other = make_loop();
        int seen = 0;
        other->add_signal_handler(SIGINT, [&] {
            seen = 1;
            other->stop();
        });
        other->call_soon([] { ::raise(SIGINT); });
        other->run_forever();
        other->close();
        return seen == 1 && action_of(SIGINT) == SIG_DFL ? 0 : 1;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
}
