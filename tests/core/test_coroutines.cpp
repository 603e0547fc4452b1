#include <gtest/gtest.h>

#include <functional>
#include <memory>
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

Coro<int> give(int value) { co_return value; }

enum class Bottom { SUSPEND, RETURN, THROW, FOREVER };

/// A chain of `depth` awaits, each with an object of its own.
Coro<int> chain(int depth, Bottom bottom) {
    Alive alive;
    if (depth > 0) {
        int below = co_await chain(depth - 1, bottom);
        co_return below + 1;
    }
    switch (bottom) {
        case Bottom::SUSPEND:
            co_await sleep(1s);
            break;
        case Bottom::RETURN:
            break;
        case Bottom::THROW:
            co_await sleep(1s);
            throw ValueError("from the bottom");
        case Bottom::FOREVER: {
            Event never;
            co_await never.wait();
            break;
        }
    }
    co_return 0;
}

constexpr int DEEP = 10'000;
constexpr int MANY = 1'000'000;

}  // namespace

// ---- long loops and deep chains

TEST(Coro, awaits_a_million_finished_coroutines_without_growing_the_stack) {
    auto main = []() -> Coro<long> {
        long sum = 0;
        for (int i = 0; i < MANY; ++i) sum += co_await give(1);
        co_return sum;
    };
    EXPECT_EQ(run_virtual(main()), MANY);
}

TEST(Coro, awaits_a_million_finished_futures_and_tasks_without_growing_the_stack) {
    auto main = []() -> Coro<long> {
        Future<int> future = get_running_loop().create_future<int>();
        future.set_result(1);
        Task<int> task = create_task(give(1));
        co_await task;
        long sum = 0;
        for (int i = 0; i < MANY / 2; ++i) {
            sum += co_await future;
            sum += co_await task;
        }
        co_return sum;
    };
    EXPECT_EQ(run_virtual(main()), MANY);
}

TEST(Coro, awaits_a_million_free_primitives_without_growing_the_stack) {
    auto main = []() -> Coro<int> {
        Lock lock;
        Semaphore semaphore;
        Event event;
        event.set();
        Queue<int> queue;
        int sum = 0;
        for (int i = 0; i < MANY / 5; ++i) {
            co_await lock.acquire();
            lock.release();
            co_await semaphore.acquire();
            semaphore.release();
            co_await event.wait();
            co_await queue.put(1);
            sum += co_await queue.get();
        }
        co_return sum;
    };
    EXPECT_EQ(run_virtual(main()), MANY / 5);
}

TEST(Coro, awaits_a_million_failures_in_a_row_as_outcomes) {
    auto main = []() -> Coro<int> {
        Future<int> future = get_running_loop().create_future<int>();
        future.set_exception(ValueError("always"));
        int failures = 0;
        for (int i = 0; i < MANY; ++i) {
            auto outcome = co_await try_await(future);
            failures += !outcome.has_value();
        }
        co_return failures;
    };
    EXPECT_EQ(run_virtual(main()), MANY);
}

TEST(Coro, a_generator_gives_a_million_values_without_growing_the_stack) {
    auto numbers = []() -> AsyncGenerator<int> {
        for (int i = 0; i < MANY; ++i) co_yield 1;
    };
    auto main = [&]() -> Coro<long> {
        long sum = 0;
        auto generator = numbers();
        while (auto value = co_await generator.next()) sum += *value;
        co_return sum;
    };
    EXPECT_EQ(run_virtual(main()), MANY);
}

TEST(Coro, a_chain_of_ten_thousand_awaits_returns) {
    long before = Alive::count();
    EXPECT_EQ(run_virtual(chain(DEEP, Bottom::RETURN)), DEEP);
    EXPECT_EQ(Alive::count(), before);
}

TEST(Coro, a_chain_of_ten_thousand_awaits_resumes_at_the_bottom) {
    long before = Alive::count();
    EXPECT_EQ(run_virtual(chain(DEEP, Bottom::SUSPEND)), DEEP);
    EXPECT_EQ(Alive::count(), before);
}

TEST(Coro, an_exception_climbs_ten_thousand_awaits) {
    long before = Alive::count();
    EXPECT_EQ(thrown_by([] { return run_virtual(chain(DEEP, Bottom::THROW)); }),
              "ValueError: from the bottom");
    EXPECT_EQ(Alive::count(), before);
}

TEST(Coro, a_cancellation_climbs_ten_thousand_awaits) {
    long before = Alive::count();
    auto main = []() -> Coro<> {
        Task<int> task = create_task(chain(DEEP, Bottom::FOREVER));
        co_await sleep(1s);
        task.cancel("climb");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: climb");
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
}

TEST(Coro, a_chain_of_ten_thousand_awaits_is_destroyed_with_its_loop) {
    long before = Alive::count();
    Reports reports;
    {
        auto loop = coil::testing::virtual_loop();
        reports.record(*loop);
        {
            Task<int> task = loop->create_task(chain(DEEP, Bottom::FOREVER));
        }
        run_one_turn(*loop);
        EXPECT_EQ(Alive::count(), before + DEEP + 1);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(reports.size(), 1u);
}

TEST(Coro, a_chain_of_try_await_and_async_with_is_as_deep) {
    struct Manager {
        int enter() { return 1; }
        void exit(const std::exception_ptr&) {}
    };
    std::function<Coro<int>(int)> nested = [&](int depth) -> Coro<int> {
        if (depth == 0) co_return co_await sleep(1s, 0);
        auto body = [&](int&) -> Coro<int> {
            auto outcome = co_await try_await(nested(depth - 1));
            co_return outcome.value() + 1;
        };
        Manager manager;
        co_return co_await async_with(manager, body);
    };
    EXPECT_EQ(run_virtual(nested(DEEP / 4)), DEEP / 4);
}

TEST(Coro, ten_thousand_tasks_may_await_one_another) {
    auto main = []() -> Coro<int> {
        Task<int> last = create_task(give(0));
        auto next = [](Task<int> before) -> Coro<int> { co_return co_await before + 1; };
        for (int i = 0; i < DEEP; ++i) last = create_task(next(last));
        co_return co_await last;
    };
    EXPECT_EQ(run_virtual(main()), DEEP);
}

TEST(Coro, ten_thousand_tasks_that_await_one_another_are_cancelled_from_the_end) {
    long before = Alive::count();
    auto main = []() -> Coro<> {
        auto bottom = []() -> Coro<> {
            Alive alive;
            co_await sleep(1h);
        };
        auto next = [](Task<> earlier) -> Coro<> {
            Alive alive;
            co_await earlier;
        };
        Task<> first = create_task(bottom());
        Task<> last = first;
        for (int i = 0; i < DEEP; ++i) last = create_task(next(last));
        co_await sleep(1s);
        last.cancel();
        co_await try_await(last);
        EXPECT_TRUE(first.cancelled());
        EXPECT_TRUE(last.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
}

// ---- a Coro as a value

TEST(Coro, does_nothing_until_it_is_awaited) {
    bool ran = false;
    auto coro = [&]() -> Coro<> {
        ran = true;
        co_return;
    };
    auto main = [&]() -> Coro<> {
        Coro<> lazy = coro();
        co_await sleep(1s);
        EXPECT_FALSE(ran);
        EXPECT_TRUE(static_cast<bool>(lazy));
        co_await std::move(lazy);
        EXPECT_TRUE(ran);
        EXPECT_FALSE(static_cast<bool>(lazy));
    };
    run_virtual(main());
}

TEST(Coro, that_is_dropped_destroys_its_arguments) {
    long before = Alive::count();
    auto coro = [](Alive) -> Coro<> { co_return; };
    {
        Coro<> dropped = coro(Alive());
        EXPECT_EQ(Alive::count(), before + 1);
    }
    EXPECT_EQ(Alive::count(), before);
}

Coro<> never_awaited_function() { co_return; }

TEST(Coro, that_is_dropped_is_reported_in_debug_mode_with_its_name_and_place) {
    LogRecorder log;
    auto main = []() -> Coro<> {
        {
            Coro<> unused = never_awaited_function();
        }
        co_return;
    };
    run(main(), {.debug = true, .loop_factory = coil::testing::virtual_loop});
    EXPECT_EQ(log.count("coroutine '"), 1u) << log.str();
    EXPECT_EQ(log.count("never_awaited_function"), 1u) << log.str();
    EXPECT_EQ(log.count("was never awaited"), 1u) << log.str();
    EXPECT_EQ(log.count("test_coroutines.cpp:"), 1u) << log.str();
    run(main(), {.debug = false, .loop_factory = coil::testing::virtual_loop});
    EXPECT_EQ(log.count("was never awaited"), 1u) << "only debug mode reports it";
}

TEST(Coro, frees_its_frame_before_the_awaiting_coroutine_goes_on_past_the_expression) {
    auto coro = [](Alive) -> Coro<int> { co_return 1; };
    long before = Alive::count();
    auto main = [&]() -> Coro<> {
        co_await coro(Alive());
        EXPECT_EQ(Alive::count(), before);
    };
    run_virtual(main());
}

TEST(Coro, passes_values_references_and_move_only_objects) {
    auto text = []() -> Coro<std::string> { co_return "text"; };
    int object = 3;
    auto reference = [&]() -> Coro<int&> { co_return object; };
    auto move_only = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    auto main = [&]() -> Coro<> {
        std::string value = co_await text();
        EXPECT_EQ(value, "text");
        int& same = co_await reference();
        EXPECT_EQ(&same, &object);
        std::unique_ptr<int> moved = co_await move_only();
        EXPECT_EQ(*moved, 4);
    };
    run_virtual(main());
}

TEST(Coro, awaited_directly_runs_in_the_same_task_without_a_turn) {
    bool ticked = false;
    auto child = []() -> Coro<std::string> { co_return current_task().get_name(); };
    auto main = [&]() -> Coro<> {
        get_running_loop().call_soon([&] { ticked = true; });
        std::string name = co_await child();
        EXPECT_EQ(name, current_task().get_name());
        EXPECT_FALSE(ticked);
    };
    run_virtual(main());
}

TEST(Coro, an_exception_from_a_child_is_caught_at_the_await) {
    auto child = []() -> Coro<> {
        co_await sleep(0s);
        throw ValueError("child");
    };
    auto main = [&]() -> Coro<std::string> {
        try {
            co_await child();
        } catch (const ValueError& e) {
            co_return e.what();
        }
        co_return "nothing";
    };
    EXPECT_EQ(run_virtual(main()), "child");
}

TEST(Coro, locals_are_destroyed_in_reverse_order_when_cancelled) {
    struct Noisy {
        Log& log;
        std::string name;
        ~Noisy() { log.push_back(name); }
    };
    Log log;
    auto inner = [&]() -> Coro<> {
        Noisy third{log, "third"};
        co_await sleep(1h);
    };
    auto outer = [&]() -> Coro<> {
        Noisy first{log, "first"};
        Noisy second{log, "second"};
        co_await inner();
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(outer());
        co_await sleep(1s);
        task.cancel();
        co_await try_await(task);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"third", "second", "first"}));
}

TEST(Coro, locals_are_destroyed_in_the_same_order_with_the_loop) {
    struct Noisy {
        Log& log;
        std::string name;
        ~Noisy() { log.push_back(name); }
    };
    Log log;
    LogRecorder quiet;
    auto inner = [&]() -> Coro<> {
        Noisy third{log, "third"};
        co_await sleep(1h);
    };
    auto outer = [&]() -> Coro<> {
        Noisy first{log, "first"};
        Noisy second{log, "second"};
        co_await inner();
    };
    {
        auto loop = coil::testing::virtual_loop();
        {
            Task<> task = loop->create_task(outer());
        }
        run_one_turn(*loop);
        loop->close();
    }
    EXPECT_EQ(log, (Log{"third", "second", "first"}));
}

// ---- try_await

TEST(TryAwait, gives_values_errors_and_cancellations) {
    auto failing = []() -> Coro<int> {
        throw ValueError("no");
        co_return 1;
    };
    auto main = [&]() -> Coro<> {
        auto good = co_await try_await(give(4));
        static_assert(std::is_same_v<decltype(good), Outcome<int>>);
        EXPECT_TRUE(good.has_value());
        EXPECT_TRUE(static_cast<bool>(good));
        EXPECT_EQ(good.value(), 4);
        EXPECT_EQ(good.result(), 4);
        EXPECT_EQ(*good, 4);
        EXPECT_EQ(good.exception(), nullptr);
        EXPECT_FALSE(good.cancelled());

        auto bad = co_await try_await(failing());
        EXPECT_FALSE(bad.has_value());
        EXPECT_FALSE(bad.cancelled());
        EXPECT_EQ(error_text(bad.exception()), "ValueError: no");
        EXPECT_EQ(bad.exception(), bad.error());
        EXPECT_EQ(thrown_by([&] { return bad.value(); }), "ValueError: no");

        Future<> future = get_running_loop().create_future();
        future.cancel("gone");
        auto gone = co_await try_await(future);
        EXPECT_TRUE(gone.cancelled());
        EXPECT_EQ(error_text(gone.exception()), "CancelledError: gone");

        auto slept = co_await try_await(sleep(1s));
        EXPECT_TRUE(slept.has_value());
    };
    run_virtual(main());
}

TEST(TryAwait, gives_move_only_values) {
    auto make = []() -> Coro<MoveOnly> { co_return MoveOnly(3); };
    auto main = [&]() -> Coro<> {
        auto outcome = co_await try_await(make());
        MoveOnly value = std::move(outcome).value();
        EXPECT_EQ(value.value, 3);
        auto of_task = co_await try_await(create_task(make()));
        EXPECT_EQ(of_task->value, 3);
    };
    run_virtual(main());
}

TEST(TryAwait, catches_what_is_no_std_exception) {
    auto throws_int = []() -> Coro<> {
        throw 42;
        co_return;
    };
    auto main = [&]() -> Coro<std::string> {
        auto outcome = co_await try_await(throws_int());
        co_return error_text(outcome.exception());
    };
    EXPECT_EQ(run_virtual(main()), "int");
}

TEST(TryAwait, counts_as_retrieving_the_exception) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        Future<> future = get_running_loop().create_future();
        future.set_exception(ValueError("seen"));
        co_await try_await(future);
    };
    run_virtual(main());
    EXPECT_TRUE(reports.empty());
}

// ---- finally

TEST(Finally, runs_the_cleanup_after_success_error_and_cancellation) {
    Log log;
    auto cleanup = [&]() -> Coro<> {
        co_await sleep(1s);
        log.push_back("cleanup");
    };
    auto good = []() -> Coro<int> { co_return 1; };
    auto bad = []() -> Coro<int> {
        throw ValueError("body");
        co_return 1;
    };
    auto slow = []() -> Coro<int> { co_return co_await sleep(1h, 1); };
    auto main = [&]() -> Coro<> {
        int value = co_await finally(good(), cleanup);
        log.push_back(std::to_string(value));
        auto failed = co_await try_await(finally(bad, cleanup));
        log.push_back(error_text(failed.exception()));
        Task<int> task = create_task(finally(slow, cleanup));
        co_await sleep(1s);
        task.cancel("stop");
        std::string error = co_await thrown_by_await(task);
        log.push_back(error);
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"cleanup", "1", "cleanup", "ValueError: body", "cleanup", "CancelledError: stop"}));
}

TEST(Finally, an_error_of_the_cleanup_replaces_the_outcome) {
    auto body = []() -> Coro<> {
        throw ValueError("body");
        co_return;
    };
    auto cleanup = []() -> Coro<> {
        throw TypeError("cleanup");
        co_return;
    };
    auto main = [&]() -> Coro<std::string> { co_return co_await thrown_by_await(finally(body, cleanup)); };
    EXPECT_EQ(run_virtual(main()), "TypeError: cleanup");
}

TEST(Finally, a_second_cancellation_interrupts_the_cleanup) {
    Log log;
    auto body = []() -> Coro<> { co_await sleep(1h); };
    auto cleanup = [&]() -> Coro<> {
        auto outcome = co_await try_await(sleep(1h));
        log.push_back("cleanup " + error_text(outcome.exception()));
        outcome.value();
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(finally(body, cleanup));
        co_await sleep(1s);
        task.cancel("one");
        co_await sleep(1s);
        EXPECT_FALSE(task.done());
        task.cancel("two");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: two");
        EXPECT_EQ(get_running_loop().time().time_since_epoch(), Duration(3s));
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"cleanup CancelledError: two"}));
}
