#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

AsyncGenerator<int> count_to(int end) {
    for (int i = 1; i <= end; ++i) {
        co_await sleep(1s);
        co_yield i;
    }
}

/// Yields 1, 2, 3; notes when it is cleaned up, which takes a second.
AsyncGenerator<int> noting(Log& log, Alive = Alive()) {
    std::exception_ptr error;
    try {
        for (int i = 1; i <= 3; ++i) co_yield i;
    } catch (...) {
        error = std::current_exception();
    }
    co_await sleep(1s);
    log.push_back("cleaned up: " + error_text(error));
    if (error) std::rethrow_exception(error);
}

}  // namespace

TEST(AsyncGenerator, gives_its_values_and_then_nothing) {
    auto main = []() -> Coro<> {
        auto generator = count_to(3);
        std::vector<int> values;
        while (auto value = co_await generator.next()) values.push_back(*value);
        EXPECT_EQ(values, (std::vector<int>{1, 2, 3}));
        auto after = co_await generator.next();
        EXPECT_EQ(after, std::nullopt);
        EXPECT_EQ(get_running_loop().time().time_since_epoch(), Duration(4s));
    };
    run_virtual(main());
}

TEST(AsyncGenerator, does_not_begin_before_the_first_next) {
    bool begun = false;
    auto make = [&]() -> AsyncGenerator<int> {
        begun = true;
        co_yield 1;
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        co_await sleep(1s);
        EXPECT_FALSE(begun);
        co_await generator.next();
        EXPECT_TRUE(begun);
    };
    run_virtual(main());
}

TEST(AsyncGenerator, gives_move_only_values) {
    auto make = []() -> AsyncGenerator<MoveOnly> {
        co_yield MoveOnly(1);
        MoveOnly local(2);
        co_yield std::move(local);
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        auto first = co_await generator.next();
        auto second = co_await generator.next();
        EXPECT_EQ(first->value, 1);
        EXPECT_EQ(second->value, 2);
        auto end = co_await generator.next();
        EXPECT_FALSE(end.has_value());
    };
    run_virtual(main());
}

TEST(AsyncGenerator, throws_its_exception_at_next_and_is_finished) {
    auto make = []() -> AsyncGenerator<int> {
        co_yield 1;
        throw ValueError("in generator");
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        co_await generator.next();
        std::string error = co_await thrown_by_await(Coro<std::optional<int>>(generator.next()));
        EXPECT_EQ(error, "ValueError: in generator");
        auto after = co_await generator.next();
        EXPECT_EQ(after, std::nullopt);
    };
    run_virtual(main());
}

TEST(AsyncGenerator, may_be_driven_by_generators_that_are_driven) {
    auto doubled = [](int end) -> AsyncGenerator<int> {
        auto inner = count_to(end);
        while (auto value = co_await inner.next()) co_yield *value * 2;
    };
    auto main = [&]() -> Coro<> {
        auto generator = doubled(3);
        std::vector<int> values;
        while (auto value = co_await generator.next()) values.push_back(*value);
        EXPECT_EQ(values, (std::vector<int>{2, 4, 6}));
    };
    run_virtual(main());
}

TEST(AsyncGenerator, aclose_runs_its_cleanup_to_the_end) {
    Log log;
    long before = Alive::count();
    auto main = [&]() -> Coro<> {
        {
            auto generator = noting(log);
            co_await generator.next();
            co_await generator.aclose();
            EXPECT_EQ(log, (Log{"cleaned up: GeneratorExit"}));
            auto after = co_await generator.next();
            EXPECT_EQ(after, std::nullopt);
            co_await generator.aclose();
        }
        EXPECT_EQ(Alive::count(), before);
    };
    run_virtual(main());
    EXPECT_EQ(log.size(), 1u);
}

TEST(AsyncGenerator, aclose_of_one_that_never_began_runs_nothing) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto generator = noting(log);
        co_await generator.aclose();
        auto after = co_await generator.next();
        EXPECT_EQ(after, std::nullopt);
    };
    run_virtual(main());
    EXPECT_EQ(log, Log());
}

TEST(AsyncGenerator, aclose_of_one_that_yields_again_is_an_error) {
    auto stubborn = []() -> AsyncGenerator<int> {
        for (int i = 0; i < 3; ++i) {
            try {
                co_yield i;
            } catch (const GeneratorExit&) {
            }
        }
    };
    auto main = [&]() -> Coro<> {
        auto generator = stubborn();
        co_await generator.next();
        std::string error = co_await thrown_by_await(generator.aclose());
        EXPECT_EQ(error, "RuntimeError: async generator ignored GeneratorExit");
    };
    run_virtual(main());
}

TEST(AsyncGenerator, aclose_throws_what_the_cleanup_throws) {
    auto make = []() -> AsyncGenerator<int> {
        try {
            co_yield 1;
        } catch (const GeneratorExit&) {
            throw ValueError("in cleanup");
        }
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        co_await generator.next();
        std::string error = co_await thrown_by_await(generator.aclose());
        EXPECT_EQ(error, "ValueError: in cleanup");
    };
    run_virtual(main());
}

TEST(AsyncGenerator, athrow_throws_at_the_yield_and_gives_the_next_value) {
    auto make = []() -> AsyncGenerator<int> {
        try {
            co_yield 1;
        } catch (const ValueError&) {
        }
        co_yield 2;
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        co_await generator.next();
        auto next = co_await generator.athrow(std::make_exception_ptr(ValueError("in")));
        EXPECT_EQ(next, 2);
        std::string error =
            co_await thrown_by_await(generator.athrow(std::make_exception_ptr(TypeError("out"))));
        EXPECT_EQ(error, "TypeError: out");
        auto after = co_await generator.next();
        EXPECT_EQ(after, std::nullopt);
    };
    run_virtual(main());
}

TEST(AsyncGenerator, two_nexts_at_once_are_an_error_for_the_second) {
    auto main = []() -> Coro<> {
        auto generator = count_to(2);
        auto driver = [](AsyncGenerator<int>& g) -> Coro<std::optional<int>> { co_return co_await g.next(); };
        Task<std::optional<int>> first = create_task(driver(generator));
        co_await sleep(0s);
        std::string next = co_await thrown_by_await(driver(generator));
        std::string close = co_await thrown_by_await(generator.aclose());
        std::string thrown =
            co_await thrown_by_await(generator.athrow(std::make_exception_ptr(ValueError("x"))));
        EXPECT_EQ(next, "RuntimeError: anext(): asynchronous generator is already running");
        EXPECT_EQ(close, "RuntimeError: aclose(): asynchronous generator is already running");
        EXPECT_EQ(thrown, "RuntimeError: athrow(): asynchronous generator is already running");
        auto value = co_await first;
        EXPECT_EQ(value, 1) << "the first goes on undisturbed";
    };
    run_virtual(main());
}

TEST(AsyncGenerator, a_cancelled_next_throws_inside_the_generator) {
    Log log;
    auto make = [&]() -> AsyncGenerator<int> {
        auto outcome = co_await try_await(sleep(1h));
        log.push_back(error_text(outcome.exception()));
        outcome.value();
        co_yield 1;
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        auto driver = [](AsyncGenerator<int>& g) -> Coro<> { co_await g.next(); };
        Task<> task = create_task(driver(generator));
        co_await sleep(1s);
        task.cancel("stop");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: stop");
        auto after = co_await generator.next();
        EXPECT_EQ(after, std::nullopt);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"CancelledError: stop"}));
}

TEST(AsyncGenerator, leaving_it_early_does_not_close_it_until_it_is_dropped) {
    Log log;
    long before = Alive::count();
    auto main = [&]() -> Coro<> {
        {
            auto generator = noting(log);
            co_await generator.next();
            co_await sleep(1h);
            EXPECT_EQ(log, Log());
        }
        EXPECT_EQ(log, Log()) << "its cleanup awaits: it runs in a task";
        co_await sleep(2s);
        EXPECT_EQ(log, (Log{"cleaned up: GeneratorExit"}));
        EXPECT_EQ(Alive::count(), before);
    };
    run_virtual(main());
}

TEST(AsyncGenerator, dropped_unbegun_or_finished_is_gone_at_once) {
    Log log;
    long before = Alive::count();
    auto main = [&]() -> Coro<> {
        {
            auto unbegun = noting(log);
        }
        EXPECT_EQ(Alive::count(), before);
        {
            auto finished = noting(log);
            while (co_await finished.next()) {
            }
        }
        EXPECT_EQ(Alive::count(), before);
        EXPECT_EQ(all_tasks().size(), 1u);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"cleaned up: nothing"}));
}

TEST(AsyncGenerator, an_open_one_is_closed_by_run) {
    Log log;
    long before = Alive::count();
    std::optional<AsyncGenerator<int>> generator;
    auto main = [&]() -> Coro<> {
        generator.emplace(noting(log));
        co_await generator->next();
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"cleaned up: GeneratorExit"}));
    generator.reset();
    EXPECT_EQ(Alive::count(), before);
}

TEST(AsyncGenerator, dropped_in_the_last_turn_of_a_run_is_destroyed) {
    // CPython cancels the task that closes it. Whatever becomes of the cleanup, the locals must go.
    Log log;
    long before = Alive::count();
    LogRecorder messages;
    auto main = [&]() -> Coro<> {
        auto generator = noting(log);
        co_await generator.next();
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(messages.str(), "");
}

TEST(AsyncGenerator, dropped_in_the_last_turn_of_a_run_begins_its_cleanup) {
    // CPython runs `finally` up to its first suspension there.
    Log log;
    auto make = [&]() -> AsyncGenerator<int> {
        struct Finally {
            Log& log;
            ~Finally() { log.push_back("finally"); }
        } note{log};
        co_yield 1;
    };
    auto main = [&]() -> Coro<> {
        auto generator = make();
        co_await generator.next();
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"finally"}));
}

TEST(AsyncGenerator, dropped_when_the_loop_is_closed_right_after_leaks_nothing) {
    Log log;
    long before = Alive::count();
    {
        VirtualLoop loop;
        auto main = [&]() -> Coro<> {
            auto generator = noting(log);
            co_await generator.next();
            get_running_loop().stop();
        };
        loop->run_until_complete(main());
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(AsyncGenerator, dropped_after_its_loop_has_gone_is_destroyed_without_its_cleanup) {
    Log log;
    long before = Alive::count();
    std::optional<AsyncGenerator<int>> generator;
    {
        VirtualLoop loop;
        auto main = [&]() -> Coro<> {
            generator.emplace(noting(log));
            co_await generator->next();
        };
        loop->run_until_complete(main());
    }
    EXPECT_EQ(Alive::count(), before + 1);
    generator.reset();
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(log, Log());
}

TEST(AsyncGenerator, destroyed_while_it_runs_goes_with_whoever_drives_it) {
    long before = Alive::count();
    auto make = [](Alive) -> AsyncGenerator<int> {
        co_await sleep(1s);
        co_yield 1;
    };
    auto main = [&]() -> Coro<> {
        std::optional<AsyncGenerator<int>> generator(make(Alive()));
        auto driver = [](AsyncGenerator<int>& g) -> Coro<> { co_await g.next(); };
        Task<> task = create_task(driver(*generator));
        co_await sleep(0s);
        generator.reset();
        EXPECT_EQ(Alive::count(), before + 1);
        co_await task;
        co_await sleep(0s);
        EXPECT_EQ(Alive::count(), before);
    };
    run_virtual(main());
}

TEST(AsyncGenerator, suspended_inside_with_the_loop_gone_leaks_nothing) {
    long before = Alive::count();
    LogRecorder quiet;
    auto make = [](Alive) -> AsyncGenerator<int> {
        co_await sleep(1h);
        co_yield 1;
    };
    {
        auto loop = coil::testing::virtual_loop();
        auto driver = [&]() -> Coro<> {
            auto generator = make(Alive());
            co_await generator.next();
        };
        {
            Task<> task = loop->create_task(driver());
        }
        run_one_turn(*loop);
        EXPECT_EQ(Alive::count(), before + 1);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(AsyncGenerator, shutdown_asyncgens_closes_all_at_once_and_reports_failures) {
    Log log;
    Reports reports;
    auto failing = []() -> AsyncGenerator<int> {
        try {
            co_yield 1;
        } catch (const GeneratorExit&) {
            throw ValueError("cannot close");
        }
    };
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        reports.record(loop);
        auto a = noting(log);
        auto b = noting(log);
        auto c = failing();
        co_await a.next();
        co_await b.next();
        co_await c.next();
        TimePoint start = loop.time();
        co_await loop.shutdown_asyncgens();
        EXPECT_EQ(loop.time() - start, Duration(1s)) << "concurrently";
        EXPECT_EQ(log.size(), 2u);
    };
    run_virtual(main());
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message.substr(0, 57), "an error occurred during closing of asynchronous generato");
    EXPECT_EQ(reports[0].error, "ValueError: cannot close");
}

TEST(AsyncGenerator, begun_after_the_shutdown_warns) {
    LogRecorder log;
    auto main = [&]() -> Coro<> {
        co_await get_running_loop().shutdown_asyncgens();
        auto late = count_to(1);
        while (co_await late.next()) {
        }
    };
    run_virtual(main());
    EXPECT_EQ(log.count("was scheduled after loop.shutdown_asyncgens() call"), 1u) << log.str();
}

TEST(AsyncGenerator, that_was_moved_from_is_an_error_to_use) {
    auto main = []() -> Coro<> {
        auto generator = count_to(1);
        auto other = std::move(generator);
        std::string error = thrown_by([&] { return generator.next(); });
        EXPECT_EQ(error.substr(0, 12), "RuntimeError");
        auto value = co_await other.next();
        EXPECT_EQ(value, 1);
        co_await other.aclose();
    };
    run_virtual(main());
}
