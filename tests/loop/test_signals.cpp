#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
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

TEST_P(Signals, that_have_come_already_are_the_new_handlers) {
    Log log;
    loop().add_signal_handler(SIGUSR1, [&] { log.push_back("old"); });
    ::raise(SIGUSR1);
    loop().call_soon([&] {
        loop().add_signal_handler(SIGUSR1, [&] {
            log.push_back("new");
            loop().stop();
        });
    });
    loop().call_later(10s, [&] { loop().stop(); });
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

// ---- several loops

TEST_P(Signals, go_to_one_loop_after_another) {
    Log log;
    auto listen = [&log](EventLoop& to, std::string name) {
        to.add_signal_handler(SIGUSR1, [&log, &to, name] {
            log.push_back(name);
            EXPECT_EQ(&get_running_loop(), &to);
            to.stop();
        });
    };
    auto raise_in = [](EventLoop& in) {
        in.call_soon([] { ::raise(SIGUSR1); });
        in.run_forever();
    };
    auto second = make_loop();
    listen(loop(), "first");
    raise_in(loop());
    listen(*second, "second");
    raise_in(*second);
    EXPECT_FALSE(loop().remove_signal_handler(SIGUSR1)) << "it is the other loop's by now";
    raise_in(*second);
    listen(loop(), "first again");
    second->close();
    raise_in(loop());
    EXPECT_EQ(log, (Log{"first", "second", "second", "first again"}));
    EXPECT_TRUE(loop().remove_signal_handler(SIGUSR1));
    EXPECT_EQ(action_of(SIGUSR1), SIG_DFL);
}

TEST_P(Signals, that_come_between_two_runs_are_handled_in_the_second) {
    Log log;
    loop().add_signal_handler(SIGUSR1, [&] {
        log.push_back("signal");
        loop().stop();
    });
    run_one_turn(loop());
    ::raise(SIGUSR1);
    EXPECT_EQ(log, Log{});
    loop().run_forever();
    EXPECT_EQ(log, (Log{"signal"}));
}

TEST_P(Signals, may_be_asked_for_by_a_callback_of_another_loop) {
    auto outer = make_loop();
    Log log;
    outer->call_soon([&] {
        loop().add_signal_handler(SIGUSR1, [&] {
            log.push_back("signal");
            loop().stop();
        });
        ::raise(SIGUSR1);
        outer->call_soon([&] { outer->stop(); });
    });
    outer->run_forever();
    EXPECT_EQ(log, Log{}) << "the loop that listens did not run";
    loop().run_forever();
    EXPECT_EQ(log, (Log{"signal"}));
    outer->close();
}

TEST_P(Signals, are_for_the_main_thread_only) {
    std::thread other([this] {
        auto its_loop = make_loop();
        EXPECT_EQ(thrown_by([&] { its_loop->add_signal_handler(SIGUSR1, [] {}); }),
                  "RuntimeError: add_signal_handler() may be called in the main thread only");
        EXPECT_FALSE(its_loop->remove_signal_handler(SIGUSR1));
        its_loop->close();
    });
    other.join();
    EXPECT_EQ(action_of(SIGUSR1), SIG_DFL);
}

TEST_P(Signals, are_no_concern_of_loops_in_other_threads) {
    std::thread other([this] {
        for (int i = 0; i < 50; ++i) {
            auto its_loop = make_loop();
            EXPECT_FALSE(its_loop->remove_signal_handler(SIGUSR1));
            its_loop->close();
        }
    });
    for (int i = 0; i < 50; ++i) {
        loop().add_signal_handler(SIGUSR1, [this] { loop().stop(); });
        ::raise(SIGUSR1);
        loop().run_forever();
        EXPECT_TRUE(loop().remove_signal_handler(SIGUSR1));
    }
    other.join();
}

TEST_P(Signals, that_another_thread_gets_are_handled_in_the_loops_thread) {
    std::thread::id handled_in;
    loop().add_signal_handler(SIGUSR1, [&] {
        handled_in = std::this_thread::get_id();
        loop().stop();
    });
    std::thread other([] { ::raise(SIGUSR1); });
    loop().run_forever();
    other.join();
    EXPECT_EQ(handled_in, std::this_thread::get_id());
}

// ---- errors, and what was there before

TEST_P(Signals, what_a_handler_throws_is_reported_and_the_next_one_is_called) {
    Reports reports(loop());
    int calls = 0;
    loop().add_signal_handler(SIGUSR1, [&] {
        if (++calls == 2) loop().stop();
        throw ValueError("in a handler");
    });
    loop().add_signal_handler(SIGUSR2, [] { ::raise(SIGUSR1); });
    loop().call_soon([] {
        ::raise(SIGUSR1);
        ::raise(SIGUSR2);
    });
    loop().run_forever();
    EXPECT_EQ(calls, 2);
    ASSERT_EQ(reports.size(), 2u);
    EXPECT_EQ(reports[0].error, "ValueError: in a handler");
    EXPECT_EQ(reports[1].error, "ValueError: in a handler");
}

TEST_P(Signals, have_their_former_actions_again_however_the_loop_goes) {
    static volatile sig_atomic_t seen = 0;
    struct sigaction former{};
    former.sa_handler = [](int) { seen = 1; };
    former.sa_flags = SA_NODEFER;
    ::sigaction(SIGUSR1, &former, nullptr);
    ::signal(SIGUSR2, SIG_IGN);
    for (bool close_it : {true, false}) {
        auto other = make_loop();
        other->add_signal_handler(SIGUSR1, [] {});
        other->add_signal_handler(SIGUSR1, [] {});
        other->add_signal_handler(SIGUSR2, [] {});
        EXPECT_NE(action_of(SIGUSR1), former.sa_handler);
        if (close_it) other->close();
        other.reset();
        struct sigaction now{};
        ::sigaction(SIGUSR1, nullptr, &now);
        EXPECT_EQ(now.sa_handler, former.sa_handler);
        EXPECT_TRUE(now.sa_flags & SA_NODEFER);
        EXPECT_EQ(action_of(SIGUSR2), SIG_IGN);
    }
    ::raise(SIGUSR1);
    EXPECT_EQ(seen, 1);
    ::signal(SIGUSR1, SIG_DFL);
    ::signal(SIGUSR2, SIG_DFL);
}

// ---- SIGINT in a run, beside handlers

TEST_P(Signals, beside_handlers_of_others_SIGINT_is_a_runs_as_ever) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> {
            EventLoop& running = get_running_loop();
            running.add_signal_handler(SIGUSR1, [] { ::raise(SIGINT); });
            running.add_signal_handler(SIGTERM, [] {});
            running.call_soon([] { ::raise(SIGUSR1); });
            co_await sleep(1h);
        };
        std::printf("%s", thrown_by([&] { run(main(), {.loop_factory = factory()}); }).c_str());
        return action_of(SIGINT) == SIG_DFL && action_of(SIGUSR1) == SIG_DFL ? 0 : 1;
    });
    EXPECT_EQ(result.output, "KeyboardInterrupt");
    EXPECT_EQ(result.exit_code, 0);
}

TEST_P(Signals, SIGINT_is_a_runs_again_when_its_handler_is_removed) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> {
            EventLoop& running = get_running_loop();
            int handled = 0;
            running.add_signal_handler(SIGINT, [&handled] { ++handled; });
            ::raise(SIGINT);
            co_await sleep(1ms);
            std::printf("%d ", handled);
            running.remove_signal_handler(SIGINT);
            running.call_soon([] { ::raise(SIGINT); });
            co_await sleep(1h);
        };
        std::printf("%s", thrown_by([&] { run(main(), {.loop_factory = factory()}); }).c_str());
        return action_of(SIGINT) == SIG_DFL ? 0 : 1;
    });
    EXPECT_EQ(result.output, "1 KeyboardInterrupt");
    EXPECT_EQ(result.exit_code, 0);
}

TEST_P(Signals, SIGINT_is_a_runs_again_when_another_loop_does_not_listen_any_more) {
    ChildResult result = in_child([this] {
        auto main = [](EventLoop& other) -> Coro<> {
            other.add_signal_handler(SIGINT, [] {});
            other.remove_signal_handler(SIGINT);
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            auto outcome = co_await try_await(sleep(1s));
            std::printf("%s ", error_text(outcome.exception()).c_str());
            outcome.value();
        };
        auto other = make_loop();
        std::printf("%s", thrown_by([&] { run(main(*other), {.loop_factory = factory()}); }).c_str());
        other->close();
        return 0;
    });
    EXPECT_EQ(result.output, "CancelledError KeyboardInterrupt");
}
