#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

Coro<int> give(int value) { co_return value; }

/// A loop for a test that must close it itself.
std::unique_ptr<EventLoop> virtual_loop() { return coil::testing::virtual_loop(); }

}  // namespace

// ---- run

TEST(Run, gives_the_result_of_any_type) {
    EXPECT_EQ(run_virtual(give(3)), 3);
    auto text = []() -> Coro<std::string> { co_return "text"; };
    EXPECT_EQ(run_virtual(text()), "text");
    auto moved = []() -> Coro<MoveOnly> { co_return MoveOnly(5); };
    EXPECT_EQ(run_virtual(moved()).value, 5);
    int object = 0;
    auto reference = [&]() -> Coro<int&> { co_return object; };
    EXPECT_EQ(&run_virtual(reference()), &object);
    auto nothing = []() -> Coro<> { co_return; };
    run_virtual(nothing());
}

TEST(Run, throws_the_exception_and_can_be_called_again) {
    auto failing = []() -> Coro<int> {
        co_await sleep(1s);
        throw ValueError("main");
    };
    EXPECT_EQ(thrown_by([&] { return run_virtual(failing()); }), "ValueError: main");
    auto throws_int = []() -> Coro<> {
        throw 5;
        co_return;
    };
    EXPECT_EQ(thrown_by([&] { run_virtual(throws_int()); }), "int");
    auto cancelled = []() -> Coro<> {
        throw CancelledError("main");
        co_return;
    };
    EXPECT_EQ(thrown_by([&] { run_virtual(cancelled()); }), "CancelledError: main");
    EXPECT_EQ(run_virtual(give(3)), 3);
}

TEST(Run, inside_of_run_is_an_error_and_the_outer_goes_on) {
    auto main = []() -> Coro<int> {
        std::string nested = thrown_by([] { return run_virtual(give(1)); });
        EXPECT_EQ(nested, "RuntimeError: asyncio.run() cannot be called from a running event loop");
        co_await sleep(1s);
        co_return 2;
    };
    EXPECT_EQ(run_virtual(main()), 2);
}

TEST(Run, cancels_what_is_left_and_waits_for_its_cleanup) {
    Log log;
    long before = Alive::count();
    auto child = [&](std::string name, Duration cleanup) -> Coro<> {
        Alive alive;
        auto outcome = co_await try_await(sleep(1h));
        co_await sleep(cleanup);
        log.push_back(name + " " + error_text(outcome.exception()));
        outcome.value();
    };
    auto main = [&]() -> Coro<int> {
        {
            Task<> a = create_task(child("a", 2s));
        }
        {
            Task<> b = create_task(child("b", 1s));
        }
        co_await sleep(1s);
        co_return 1;
    };
    EXPECT_EQ(run_virtual(main()), 1);
    EXPECT_EQ(log, (Log{"b CancelledError", "a CancelledError"}));
    EXPECT_EQ(Alive::count(), before);
}

TEST(Run, reports_what_fails_while_it_is_cancelled_and_keeps_its_result) {
    Reports reports;
    auto child = []() -> Coro<> {
        auto outcome = co_await try_await(sleep(1h));
        throw ValueError("in cleanup");
    };
    auto main = [&]() -> Coro<int> {
        reports.record(get_running_loop());
        {
            Task<> a = create_task(child(), {.name = "failing"});
        }
        co_await sleep(1s);
        co_return 1;
    };
    EXPECT_EQ(run_virtual(main()), 1);
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message, "unhandled exception during asyncio.run() shutdown");
    EXPECT_EQ(reports[0].error, "ValueError: in cleanup");
    EXPECT_TRUE(reports[0].has_task);
}

TEST(Run, drops_tasks_that_cleanup_creates_with_the_loop) {
    long before = Alive::count();
    LogRecorder log;
    auto late = [](Alive) -> Coro<> { co_await sleep(1h); };
    auto child = [&]() -> Coro<> {
        co_await try_await(sleep(1h));
        Task<> dropped = create_task(late(Alive()));
    };
    auto main = [&]() -> Coro<> {
        {
            Task<> a = create_task(child());
        }
        co_await sleep(1s);
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(log.count("Task was destroyed but it is pending!"), 1u) << log.str();
}

TEST(Run, shuts_down_in_the_order_tasks_generators_loop) {
    Log log;
    auto generator = [&]() -> AsyncGenerator<int> {
        try {
            co_yield 1;
        } catch (const GeneratorExit&) {
            log.push_back("generator");
        }
    };
    std::optional<AsyncGenerator<int>> open;
    auto child = [&]() -> Coro<> {
        co_await try_await(sleep(1h));
        log.push_back("task");
    };
    struct OnClose {
        Log* log;
        ~OnClose() {
            if (log) log->push_back("loop");
        }
        OnClose(Log* l) : log(l) {}
        OnClose(OnClose&& other) noexcept : log(std::exchange(other.log, nullptr)) {}
        void operator()() {}
    };
    auto main = [&]() -> Coro<> {
        {
            Task<> a = create_task(child());
        }
        open.emplace(generator());
        co_await open->next();
        get_running_loop().call_later(100h, OnClose(&log));
        co_await sleep(1s);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"task", "generator", "loop"}));
}

TEST(Run, uses_the_debug_flag_it_is_given) {
    auto main = []() -> Coro<bool> { co_return get_running_loop().get_debug(); };
    EXPECT_TRUE(run(main(), {.debug = true, .loop_factory = virtual_loop}));
    EXPECT_FALSE(run(main(), {.debug = false, .loop_factory = virtual_loop}));
}

TEST(Run, takes_the_debug_flag_from_the_environment_if_none_is_given) {
    auto main = []() -> Coro<bool> { co_return get_running_loop().get_debug(); };
    ChildResult result = in_child([&] {
        ::setenv("COIL_DEBUG", "1", 1);
        bool on = run(main(), {.loop_factory = virtual_loop});
        bool overridden = run(main(), {.debug = false, .loop_factory = virtual_loop});
        ::setenv("COIL_DEBUG", "0", 1);
        bool zero = run(main(), {.loop_factory = virtual_loop});
        ::setenv("COIL_DEBUG", "", 1);
        bool empty = run(main(), {.loop_factory = virtual_loop});
        return on && !overridden && !zero && !empty ? 0 : 1;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST(Run, leaves_no_loop_behind) {
    auto main = []() -> Coro<> {
        EXPECT_EQ(&get_event_loop(), &get_running_loop());
        co_return;
    };
    run(main());
    EXPECT_EQ(thrown_by([] { return &get_running_loop(); }), "RuntimeError: no running event loop");
    EXPECT_EQ(thrown_by([] { return &get_event_loop(); }).substr(0, 12), "RuntimeError");
}

TEST(Run, a_factory_that_gives_nothing_is_a_type_error) {
    LoopFactory none = []() -> std::unique_ptr<EventLoop> { return nullptr; };
    EXPECT_EQ(thrown_by([&] { return run(give(1), {.loop_factory = none}); }),
              "TypeError: the loop factory gave no loop");
}

TEST(Run, a_KeyboardInterrupt_leaves_at_once_and_still_cleans_up) {
    Log log;
    long before = Alive::count();
    auto child = [&]() -> Coro<> {
        Alive alive;
        co_await try_await(sleep(1h));
        log.push_back("cleanup");
    };
    auto main = [&]() -> Coro<> {
        {
            Task<> a = create_task(child());
        }
        co_await sleep(1s);
        throw KeyboardInterrupt();
    };
    EXPECT_EQ(thrown_by([&] { run_virtual(main()); }), "KeyboardInterrupt");
    EXPECT_EQ(log, (Log{"cleanup"}));
    EXPECT_EQ(Alive::count(), before);
}

TEST(Run, a_loop_that_is_stopped_before_main_is_done_is_an_error) {
    auto main = []() -> Coro<> {
        get_running_loop().stop();
        co_await sleep(1h);
    };
    EXPECT_EQ(thrown_by([&] { run_virtual(main()); }),
              "RuntimeError: Event loop stopped before Future completed.");
}

TEST(Run, thousands_of_rounds_leave_no_descriptor_and_no_object) {
    auto child = []() -> Coro<> {
        Alive alive;
        co_await sleep(1h);
    };
    auto main = [&]() -> Coro<> {
        {
            Task<> left = create_task(child());
        }
        co_await sleep(0s);
    };
    run(main());
    std::size_t fds = open_fds();
    long before = Alive::count();
    for (int i = 0; i < 1000; ++i) run(main(), {.loop_factory = i % 2 ? epoll_loop : nullptr});
    EXPECT_EQ(open_fds(), fds);
    EXPECT_EQ(Alive::count(), before);
}

// ---- Runner

TEST(Runner, runs_several_coroutines_on_one_loop_in_one_context) {
    static ContextVar<int> var("var", 0);
    var.set(7);
    Runner runner({.loop_factory = virtual_loop});
    EventLoop* loop = &runner.get_loop();
    auto first = [&]() -> Coro<> {
        EXPECT_EQ(&get_running_loop(), loop);
        EXPECT_EQ(var.get(), 7);
        var.set(8);
        co_return;
    };
    auto second = [&]() -> Coro<int> {
        EXPECT_EQ(&get_running_loop(), loop);
        co_return var.get();
    };
    runner.run(first());
    EXPECT_EQ(runner.run(second()), 8);
    EXPECT_EQ(var.get(), 7);
    Context context;
    context.run([] { var.set(20); });
    EXPECT_EQ(runner.run(second(), {.context = &context}), 20);
    runner.close();
}

TEST(Runner, keeps_tasks_between_its_runs_until_it_is_closed) {
    Log log;
    auto background = [&]() -> Coro<> {
        for (;;) {
            auto outcome = co_await try_await(sleep(1s));
            log.push_back("tick" + std::string(outcome.cancelled() ? " cancelled" : ""));
            outcome.value();
        }
    };
    auto start = [&]() -> Coro<> {
        Task<> dropped = create_task(background());
        co_await sleep(1500ms);
    };
    auto go_on = []() -> Coro<> { co_await sleep(1s); };
    {
        Runner runner({.loop_factory = virtual_loop});
        runner.run(start());
        runner.run(go_on());
        EXPECT_EQ(log, (Log{"tick", "tick"}));
    }
    EXPECT_EQ(log, (Log{"tick", "tick", "tick cancelled"}));
}

TEST(Runner, is_reusable_after_a_failure) {
    Runner runner({.loop_factory = virtual_loop});
    auto failing = []() -> Coro<int> {
        throw ValueError("first");
        co_return 1;
    };
    EXPECT_EQ(thrown_by([&] { return runner.run(failing()); }), "ValueError: first");
    EXPECT_EQ(runner.run(give(2)), 2);
}

TEST(Runner, close_is_idempotent_and_final) {
    Runner runner({.loop_factory = virtual_loop});
    EXPECT_EQ(runner.run(give(2)), 2);
    runner.close();
    runner.close();
    EXPECT_EQ(thrown_by([&] { return runner.run(give(2)); }), "RuntimeError: Runner is closed");
    EXPECT_EQ(thrown_by([&] { return &runner.get_loop(); }), "RuntimeError: Runner is closed");
    Runner unused;
    unused.close();
    EXPECT_EQ(thrown_by([&] { return &unused.get_loop(); }), "RuntimeError: Runner is closed");
}

TEST(Runner, with_a_factory_does_not_install_its_loop) {
    Runner with({.loop_factory = virtual_loop});
    with.get_loop();
    EXPECT_EQ(thrown_by([] { return &get_event_loop(); }).substr(0, 12), "RuntimeError");
    with.close();
    Runner without;
    EventLoop* loop = &without.get_loop();
    EXPECT_EQ(&get_event_loop(), loop);
    without.close();
    EXPECT_EQ(thrown_by([] { return &get_event_loop(); }).substr(0, 12), "RuntimeError");
}

TEST(Runner, may_have_a_factory_with_a_state) {
    int made = 0;
    Runner runner([&] {
        ++made;
        return coil::testing::virtual_loop();
    });
    EXPECT_EQ(made, 0) << "the loop is made on demand";
    EXPECT_EQ(runner.run(give(1)), 1);
    EXPECT_EQ(runner.run(give(1)), 1);
    EXPECT_EQ(made, 1);
}

TEST(Runner, inside_of_a_running_loop_is_an_error) {
    Runner outer({.loop_factory = virtual_loop});
    auto main = [&]() -> Coro<> {
        EXPECT_EQ(thrown_by([&] { return outer.run(give(1)); }),
                  "RuntimeError: Runner.run() cannot be called from a running event loop");
        Runner inner({.loop_factory = virtual_loop});
        EXPECT_EQ(thrown_by([&] { return inner.run(give(1)); }),
                  "RuntimeError: Runner.run() cannot be called from a running event loop");
        EXPECT_EQ(thrown_by([&] { outer.close(); }).substr(0, 12), "RuntimeError");
        co_return;
    };
    outer.run(main());
    EXPECT_EQ(outer.run(give(1)), 1) << "the refused close() did not close it";
}

// ---- SIGINT

class Interrupt : public OnBackend {};
ON_EVERY_BACKEND(Interrupt);

TEST_P(Interrupt, cancels_the_main_task_and_becomes_a_KeyboardInterrupt) {
    ChildResult result = in_child([this] {
        Log log;
        auto main = [&]() -> Coro<> {
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            auto outcome = co_await try_await(sleep(1h));
            log.push_back(error_text(outcome.exception()));
            EXPECT_EQ(current_task().cancelling(), 1);
            outcome.value();
        };
        std::string thrown = thrown_by([&] { run(main(), {.loop_factory = factory()}); });
        std::printf("%s / %s", log.empty() ? "" : log[0].c_str(), thrown.c_str());
        struct sigaction after{};
        ::sigaction(SIGINT, nullptr, &after);
        return after.sa_handler == SIG_DFL ? 0 : 1;
    });
    EXPECT_EQ(result.output, "CancelledError / KeyboardInterrupt");
    EXPECT_EQ(result.exit_code, 0);
}

TEST_P(Interrupt, that_nobody_catches_ends_the_process_by_the_signal) {
    for (bool thrown_by_main : {false, true}) {
        ChildResult result = in_child([&, this]() noexcept {
            struct Cleanup {
                ~Cleanup() { std::printf("cleaned up\n"); }
            };
            auto main = [&]() -> Coro<> {
                Cleanup cleanup;
                co_await sleep(0s);
                if (thrown_by_main) throw KeyboardInterrupt();
                ::raise(SIGINT);
                co_await sleep(1h);
            };
            run(main(), {.loop_factory = factory()});
            return 0;
        });
        EXPECT_EQ(result.signal, SIGINT);
        EXPECT_TRUE(contains(result.output, "cleaned up\n")) << result.output;
        EXPECT_TRUE(contains(result.output, "coil::KeyboardInterrupt")) << result.output;
    }
}

TEST_P(Interrupt, that_main_swallows_gives_mains_result) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<int> {
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            co_await try_await(sleep(1h));
            co_return 7;
        };
        return run(main(), {.loop_factory = factory()});
    });
    EXPECT_EQ(result.exit_code, 7) << result.output;
}

TEST_P(Interrupt, beside_a_cancellation_from_elsewhere_is_a_CancelledError) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> {
            Task<> self = current_task();
            get_running_loop().call_soon([self]() mutable {
                self.cancel();
                ::raise(SIGINT);
            });
            auto outcome = co_await try_await(sleep(1h));
            co_await sleep(10ms);  // by now the signal has been seen too
            outcome.value();
        };
        std::printf("%s", thrown_by([&] { run(main(), {.loop_factory = factory()}); }).c_str());
        return 0;
    });
    EXPECT_EQ(result.output, "CancelledError");
}

TEST_P(Interrupt, twice_leaves_the_loop_at_once_although_main_refuses) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> {
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            co_await try_await(sleep(1h));
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            auto outcome = co_await try_await(sleep(1h));
            // Only the shutdown of run() cancels this: the second signal did not.
            std::printf("%d ", current_task().cancelling());
            outcome.value();
        };
        std::printf("%s", thrown_by([&] { run(main(), {.loop_factory = factory()}); }).c_str());
        return 0;
    });
    EXPECT_EQ(result.output, "2 KeyboardInterrupt");
}

TEST_P(Interrupt, reaches_a_loop_that_sleeps) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> { co_await sleep(1h); };
        pid_t self = ::getpid();
        std::thread sender([self] {
            std::this_thread::sleep_for(50ms);
            ::kill(self, SIGINT);
        });
        std::printf("%s", thrown_by([&] { run(main(), {.loop_factory = factory()}); }).c_str());
        sender.join();
        return 0;
    });
    EXPECT_EQ(result.output, "KeyboardInterrupt");
}

TEST_P(Interrupt, is_left_alone_where_a_handler_is_installed) {
    ChildResult result = in_child([this] {
        static volatile sig_atomic_t seen = 0;
        ::signal(SIGINT, [](int) { seen = 1; });
        auto main = []() -> Coro<int> {
            ::raise(SIGINT);
            co_await sleep(1ms);
            co_return seen;
        };
        return run(main(), {.loop_factory = factory()}) == 1 ? 0 : 1;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(Interrupt, is_left_alone_in_other_threads) {
    ChildResult result = in_child([this] {
        std::thread other([this] {
            auto main = []() -> Coro<> {
                struct sigaction now{};
                ::sigaction(SIGINT, nullptr, &now);
                if (now.sa_handler != SIG_DFL) ::_exit(3);
                co_return;
            };
            run(main(), {.loop_factory = factory()});
        });
        other.join();
        return 0;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(Interrupt, of_a_busy_loop_ends_the_process_the_third_time) {
    ChildResult result = in_child([this] {
        auto main = []() -> Coro<> {
            for (int i = 0; i < 3; ++i) ::raise(SIGINT);
            std::printf("not reached");
            co_return;
        };
        run(main(), {.loop_factory = factory()});
        return 0;
    });
    EXPECT_EQ(result.signal, SIGINT) << result.output;
    EXPECT_EQ(result.output, "");
}

TEST_P(Interrupt, may_come_in_every_run_of_a_Runner) {
    ChildResult result = in_child([this] {
        Runner runner({.loop_factory = factory()});
        auto main = []() -> Coro<> {
            get_running_loop().call_soon([] { ::raise(SIGINT); });
            co_await sleep(1h);
        };
        for (int i = 0; i < 3; ++i) std::printf("%s ", thrown_by([&] { runner.run(main()); }).c_str());
        std::printf("%d", runner.run(give(4)));
        return 0;
    });
    EXPECT_EQ(result.output, "KeyboardInterrupt KeyboardInterrupt KeyboardInterrupt 4");
}
