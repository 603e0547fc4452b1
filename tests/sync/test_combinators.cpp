#include "coil/combinators.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
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
Coro<int> give_after(Duration delay, int value) { co_return co_await sleep(delay, value); }
Coro<int> fail_after(Duration delay, std::string text) {
    co_await sleep(delay);
    throw ValueError(text);
}
Coro<> cleaning(Log& log, std::string name, Duration cleanup) {
    auto outcome = co_await try_await(sleep(1h));
    co_await sleep(cleanup);
    log.push_back(name);
    outcome.value();
}
TimePoint now() { return get_running_loop().time(); }

}  // namespace

// ---- gather

TEST(Gather, gives_results_in_the_order_of_arguments) {
    auto main = []() -> Coro<> {
        auto [a, b, c] = co_await gather(give_after(3s, 1), give_after(1s, 2), give_after(2s, 3));
        EXPECT_EQ(std::tuple(a, b, c), std::tuple(1, 2, 3));
        EXPECT_EQ(now().time_since_epoch(), Duration(4s)) << "at the same time";
    };
    run_virtual(main());
}

TEST(Gather, takes_coroutines_tasks_and_futures_of_any_type) {
    auto nothing = []() -> Coro<> { co_return; };
    auto text = []() -> Coro<std::string> { co_return "text"; };
    auto main = [&]() -> Coro<> {
        Future<double> future = get_running_loop().create_future<double>();
        future.set_result(0.5);
        Task<std::string> task = create_task(text());
        auto results = co_await gather(nothing(), task, future, give(1), sleep(1s), sleep(1s, 9));
        static_assert(std::is_same_v<decltype(results),
                                     std::tuple<coil::None, std::string, double, int, coil::None, int>>);
        EXPECT_EQ(std::get<1>(results), "text");
        EXPECT_EQ(std::get<2>(results), 0.5);
        EXPECT_EQ(std::get<5>(results), 9);
    };
    run_virtual(main());
}

TEST(Gather, of_a_vector_gives_a_vector) {
    auto main = []() -> Coro<> {
        std::vector<Coro<int>> coros;
        for (int i = 0; i < 5; ++i) coros.push_back(give_after(std::chrono::seconds(5 - i), i));
        std::vector<int> values = co_await gather(std::move(coros));
        EXPECT_EQ(values, (std::vector<int>{0, 1, 2, 3, 4}));
        std::vector<Task<int>> tasks{create_task(give(7)), create_task(give(8))};
        std::vector<int> more = co_await gather(tasks);
        EXPECT_EQ(more, (std::vector<int>{7, 8}));
        EXPECT_EQ(tasks[0].result(), 7) << "the tasks are the caller's";
    };
    run_virtual(main());
}

TEST(Gather, of_nothing_is_done_at_once) {
    auto main = []() -> Coro<> {
        auto none = gather();
        EXPECT_TRUE(none.done());
        std::vector<Task<int>> empty;
        auto vector = gather(empty);
        EXPECT_TRUE(vector.done());
        std::vector<int> values = co_await vector;
        EXPECT_TRUE(values.empty());
    };
    run_virtual(main());
}

TEST(Gather, of_finished_futures_is_done_at_once) {
    auto main = []() -> Coro<> {
        Future<int> future = get_running_loop().create_future<int>();
        future.set_result(1);
        auto both = gather(future, future);
        EXPECT_TRUE(both.done());
        EXPECT_EQ(std::get<0>(both.result()), 1);
        EXPECT_EQ(std::get<1>(both.result()), 1);
        Future<int> failed = get_running_loop().create_future<int>();
        failed.set_exception(ValueError("before"));
        auto bad = gather(future, failed);
        EXPECT_TRUE(bad.done());
        EXPECT_EQ(error_text(bad.exception()), "ValueError: before");
        co_return;
    };
    run_virtual(main());
}

TEST(Gather, moves_the_results_of_coroutines_and_copies_those_of_kept_tasks) {
    auto make = [](int i) -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(i); };
    auto text = []() -> Coro<std::string> { co_return "kept"; };
    auto main = [&]() -> Coro<> {
        auto [a, b] = co_await gather(make(1), make(2));
        EXPECT_EQ(*a, 1);
        EXPECT_EQ(*b, 2);
        Task<std::string> task = create_task(text());
        auto pair = co_await gather(task, task);
        EXPECT_EQ(std::get<0>(pair), "kept");
        EXPECT_EQ(std::get<1>(pair), "kept");
        EXPECT_EQ(task.result(), "kept");
        std::vector<Coro<std::unique_ptr<int>>> many;
        many.push_back(make(3));
        auto values = co_await gather(std::move(many));
        EXPECT_EQ(*values[0], 3);
    };
    run_virtual(main());
}

TEST(Gather, the_same_future_twice_runs_once) {
    auto main = []() -> Coro<> {
        Task<int> task = create_task(give_after(1s, 5));
        auto both = co_await gather(task, task);
        EXPECT_EQ(both, std::tuple(5, 5));
        Task<std::string> moved =
            create_task([]() -> Coro<std::string> { co_return "long enough to be moved away"; }());
        Task<std::string> same = moved;
        auto texts = co_await gather(std::move(moved), std::move(same));
        EXPECT_EQ(std::get<0>(texts), std::get<1>(texts));
    };
    run_virtual(main());
}

TEST(Gather, the_first_error_completes_it_and_the_others_run_on) {
    bool finished = false;
    Reports reports;
    auto slow = [&]() -> Coro<int> {
        co_await sleep(10s);
        finished = true;
        co_return 1;
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        std::string error =
            co_await thrown_by_await(gather(slow(), fail_after(1s, "first"), fail_after(2s, "second")));
        EXPECT_EQ(error, "ValueError: first");
        EXPECT_EQ(now().time_since_epoch(), Duration(2s));
        EXPECT_FALSE(finished);
        co_await sleep(20s);
        EXPECT_TRUE(finished);
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), Log()) << "later errors are dropped silently";
}

TEST(Gather, with_return_exceptions_waits_for_all) {
    auto main = []() -> Coro<> {
        Future<int> cancelled = get_running_loop().create_future<int>();
        cancelled.cancel("gone");
        auto [a, b, c] =
            co_await gather(return_exceptions, give_after(3s, 1), fail_after(1s, "no"), cancelled);
        EXPECT_EQ(a.value(), 1);
        EXPECT_EQ(error_text(b.exception()), "ValueError: no");
        EXPECT_TRUE(c.cancelled());
        EXPECT_EQ(error_text(c.exception()), "CancelledError: gone");
        EXPECT_EQ(now().time_since_epoch(), Duration(4s));
        std::vector<Coro<int>> coros;
        coros.push_back(give(1));
        coros.push_back(fail_after(1s, "no"));
        auto outcomes = co_await gather(return_exceptions, std::move(coros));
        EXPECT_TRUE(outcomes[0].has_value());
        EXPECT_FALSE(outcomes[1].has_value());
    };
    run_virtual(main());
}

TEST(Gather, a_cancelled_child_is_an_error_and_not_a_cancelled_gather) {
    auto main = []() -> Coro<> {
        Task<int> child = create_task(give_after(1h, 1));
        auto both = gather(child, give_after(2h, 2));
        co_await sleep(1s);
        child.cancel("child");
        std::string error = co_await thrown_by_await(both);
        EXPECT_EQ(error, "CancelledError: child");
        EXPECT_FALSE(both.cancelled());
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Gather, cancelled_cancels_the_children_and_ends_with_the_first_of_them) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto both = gather(cleaning(log, "slow", 2s), cleaning(log, "quick", 1s));
        co_await sleep(1s);
        EXPECT_TRUE(both.cancel());
        EXPECT_FALSE(both.done()) << "not inside cancel()";
        std::string error = co_await thrown_by_await(both);
        EXPECT_EQ(error, "CancelledError");
        EXPECT_EQ(log, (Log{"quick"}));
        co_await sleep(5s);
        EXPECT_EQ(log, (Log{"quick", "slow"}));
        EXPECT_FALSE(both.cancel());
    };
    run_virtual(main());
}

TEST(Gather, cancelled_with_return_exceptions_waits_for_all_and_is_cancelled_still) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto both = gather(return_exceptions, cleaning(log, "slow", 2s), cleaning(log, "quick", 1s));
        co_await sleep(1s);
        EXPECT_TRUE(both.cancel());
        auto outcome = co_await try_await(both);
        EXPECT_TRUE(outcome.cancelled());
        EXPECT_EQ(log, (Log{"quick", "slow"}));
    };
    run_virtual(main());
}

TEST(Gather, cancelled_after_a_child_swallowed_it_is_cancelled_only_without_return_exceptions) {
    auto stubborn = []() -> Coro<int> {
        co_await try_await(sleep(1h));
        co_return 3;
    };
    auto main = [&]() -> Coro<> {
        auto plain = gather(stubborn());
        co_await sleep(1s);
        plain.cancel();
        std::string error = co_await thrown_by_await(plain);
        EXPECT_EQ(error, "CancelledError");
        auto outcomes = gather(return_exceptions, stubborn());
        co_await sleep(1s);
        outcomes.cancel();
        std::string also = co_await thrown_by_await(outcomes);
        EXPECT_EQ(also, "CancelledError");
    };
    run_virtual(main());
}

TEST(Gather, may_be_kept_and_awaited_later_or_twice) {
    auto main = []() -> Coro<> {
        auto both = gather(give_after(1s, 1), give_after(2s, 2));
        co_await sleep(5s);
        EXPECT_TRUE(both.done());
        auto first = co_await both;
        auto second = co_await both;
        EXPECT_EQ(first, second);
    };
    run_virtual(main());
}

TEST(Gather, that_nobody_keeps_still_runs_its_children) {
    bool finished = false;
    Reports reports;
    auto child = [&]() -> Coro<> {
        co_await sleep(1s);
        finished = true;
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        {
            auto dropped = gather(child(), child());
        }
        {
            auto failing = gather(fail_after(1s, "nobody"));
        }
        co_await sleep(5s);
    };
    run_virtual(main());
    EXPECT_TRUE(finished);
    EXPECT_EQ(reports.texts(), (Log{"_GatheringFuture exception was never retrieved: ValueError: nobody"}));
}

TEST(Gather, left_behind_with_its_loop_leaks_nothing) {
    long before = Alive::count();
    LogRecorder quiet;
    {
        auto loop = coil::testing::virtual_loop();
        auto child = [](Alive) -> Coro<> { co_await sleep(1h); };
        auto main = [&]() -> Coro<> {
            auto both = gather(child(Alive()), child(Alive()));
            co_await both;
        };
        {
            Task<> task = loop->create_task(main());
        }
        for (int i = 0; i < 3; ++i) run_one_turn(*loop);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Gather, left_behind_with_a_callback_that_holds_something_leaks_nothing) {
    long before = Alive::count();
    LogRecorder quiet;
    {
        auto loop = coil::testing::virtual_loop();
        auto child = []() -> Coro<> { co_await sleep(1h); };
        auto main = [&]() -> Coro<> {
            auto both = gather(child(), child());
            both.add_done_callback([alive = Alive()](auto) {});
            co_return;
        };
        loop->run_until_complete(main());
        EXPECT_EQ(Alive::count(), before + 1);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Gather, of_coroutines_needs_a_loop) {
    EXPECT_EQ(thrown_by([] { return gather(give(1)); }).substr(0, 12), "RuntimeError");
    EXPECT_EQ(thrown_by([] { return gather(); }).substr(0, 12), "RuntimeError");
}

TEST(Gather, of_ten_thousand_children_gives_all_results) {
    auto main = []() -> Coro<long> {
        std::vector<Coro<int>> coros;
        for (int i = 0; i < 10'000; ++i) coros.push_back(give_after(std::chrono::milliseconds(i % 100), i));
        auto values = co_await gather(std::move(coros));
        long sum = 0;
        for (int value : values) sum += value;
        co_return sum;
    };
    EXPECT_EQ(run_virtual(main()), 10'000L * 9'999 / 2);
}

// ---- wait

TEST(Wait, for_all_gives_done_and_pending_in_the_order_given) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(2s, 1)), create_task(fail_after(1s, "no")),
                                     create_task(give_after(3s, 3))};
        auto [done, pending] = co_await wait(tasks);
        EXPECT_EQ(done.size(), 3u);
        EXPECT_TRUE(pending.empty());
        EXPECT_TRUE(done[0] == tasks[0]);
        EXPECT_TRUE(done[1] == tasks[1]);
        EXPECT_EQ(error_text(done[1].exception()), "ValueError: no");
    };
    run_virtual(main());
}

TEST(Wait, with_a_timeout_cancels_nothing_and_throws_nothing) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(5s, 1)), create_task(give_after(1s, 2))};
        auto [done, pending] = co_await wait(tasks, {.timeout = 2s});
        EXPECT_EQ(done.size(), 1u);
        EXPECT_EQ(pending.size(), 1u);
        EXPECT_TRUE(done[0] == tasks[1]);
        EXPECT_TRUE(pending[0] == tasks[0]);
        EXPECT_EQ(now().time_since_epoch(), Duration(3s));
        int value = co_await tasks[0];
        EXPECT_EQ(value, 1);
        EXPECT_EQ(tasks[0].cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Wait, with_a_timeout_of_zero_only_looks) {
    auto main = []() -> Coro<> {
        Future<int> ready = get_running_loop().create_future<int>();
        ready.set_result(1);
        std::vector<Future<int>> futures{ready, get_running_loop().create_future<int>()};
        auto [done, pending] = co_await wait(futures, {.timeout = 0s});
        EXPECT_EQ(done.size(), 1u);
        EXPECT_EQ(pending.size(), 1u);
        EXPECT_EQ(now().time_since_epoch(), Duration(1s));
    };
    run_virtual(main());
}

TEST(Wait, first_completed_returns_with_the_first) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(5s, 1)), create_task(give_after(1s, 2))};
        auto [done, pending] = co_await wait(tasks, {.return_when = FIRST_COMPLETED});
        EXPECT_EQ(done.size(), 1u);
        EXPECT_EQ(pending.size(), 1u);
        EXPECT_EQ(done[0].result(), 2);
    };
    run_virtual(main());
}

TEST(Wait, first_exception_ignores_values_and_cancellations) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(1s, 1)), create_task(give_after(1h, 2)),
                                     create_task(fail_after(3s, "third")), create_task(give_after(4s, 4))};
        co_await sleep(0s);
        get_running_loop().call_later(2s, [&] { tasks[1].cancel(); });
        auto [done, pending] = co_await wait(tasks, {.return_when = FIRST_EXCEPTION});
        EXPECT_EQ(done.size(), 3u);
        EXPECT_EQ(pending.size(), 1u);
        EXPECT_EQ(now().time_since_epoch(), Duration(4s));
        std::vector<Task<int>> good{create_task(give_after(1s, 1)), create_task(give_after(2s, 1))};
        auto all = co_await wait(good, {.return_when = FIRST_EXCEPTION});
        EXPECT_EQ(all.done.size(), 2u);
    };
    run_virtual(main());
}

TEST(Wait, drops_duplicates) {
    auto main = []() -> Coro<> {
        Task<int> task = create_task(give_after(1s, 1));
        std::vector<Task<int>> tasks{task, task, task};
        auto [done, pending] = co_await wait(tasks);
        EXPECT_EQ(done.size(), 1u);
    };
    run_virtual(main());
}

TEST(Wait, may_be_called_again_for_what_is_pending) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> pending;
        for (int i = 0; i < 5; ++i)
            pending.push_back(create_task(give_after(std::chrono::seconds(i + 1), i)));
        std::vector<int> order;
        while (!pending.empty()) {
            auto result = co_await wait(pending, {.return_when = FIRST_COMPLETED});
            for (auto& task : result.done) order.push_back(task.result());
            pending = result.pending;
        }
        EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
    };
    run_virtual(main());
}

TEST(Wait, goes_on_although_a_second_future_ends_between_its_wake_up_and_its_turn) {
    auto main = []() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Future<> first = loop.create_future();
        Future<> second = loop.create_future();
        loop.call_soon([&] {
            first.set_result();
            get_running_loop().call_soon([&] { second.set_result(); });
        });
        std::vector<Future<>> both{first, second};
        auto result = co_await wait(both, {.return_when = FIRST_COMPLETED});
        EXPECT_EQ(result.done.size(), 2u);
        co_await turns(3);
    };
    run_virtual(main());
}

TEST(Wait, cancelled_leaves_the_tasks_alone) {
    auto main = []() -> Coro<> {
        Task<int> task = create_task(give_after(5s, 1));
        std::vector<Task<int>> tasks{task};
        auto waiting = [](std::vector<Task<int>> ts) -> Coro<> { co_await wait(ts); };
        Task<> waiter = create_task(waiting(tasks));
        co_await sleep(1s);
        waiter.cancel();
        co_await try_await(waiter);
        EXPECT_TRUE(waiter.cancelled());
        EXPECT_EQ(task.cancelling(), 0);
        int value = co_await task;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
}

// ---- wait_for

TEST(WaitFor, gives_the_result_in_time) {
    auto main = []() -> Coro<> {
        int a = co_await wait_for(give_after(1s, 1), 2s);
        Task<int> task = create_task(give_after(1s, 2));
        int b = co_await wait_for(task, 2s);
        int c = co_await wait_for(give_after(1h, 3), std::nullopt);
        int d = co_await wait_for(give(4), 1ns);
        EXPECT_EQ(std::tuple(a, b, c, d), std::tuple(1, 2, 3, 4));
        MoveOnly moved = co_await wait_for([]() -> Coro<MoveOnly> { co_return MoveOnly(5); }(), 1s);
        EXPECT_EQ(moved.value, 5);
        Event event;
        event.set();
        bool set = co_await wait_for(event.wait(), 1s);
        EXPECT_TRUE(set);
    };
    run_virtual(main());
}

TEST(WaitFor, cancels_what_is_late_and_waits_for_its_cleanup) {
    Log log;
    auto main = [&]() -> Coro<> {
        std::string error = co_await thrown_by_await(wait_for(cleaning(log, "cleaned", 3s), 1s));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_EQ(log, (Log{"cleaned"}));
        EXPECT_EQ(now().time_since_epoch(), Duration(5s));
        EXPECT_EQ(current_task().cancelling(), 0);
        Task<int> task = create_task(give_after(1h, 1));
        error = co_await thrown_by_await(wait_for(task, 1s));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
}

TEST(WaitFor, runs_a_coroutine_in_the_calling_task) {
    auto name = []() -> Coro<std::string> { co_return current_task().get_name(); };
    auto main = [&]() -> Coro<> {
        std::string inner = co_await wait_for(name(), 1s);
        EXPECT_EQ(inner, current_task().get_name());
    };
    run_virtual(main());
}

TEST(WaitFor, a_value_or_error_that_comes_during_the_cancellation_wins) {
    auto value = []() -> Coro<int> {
        co_await try_await(sleep(1h));
        co_return 7;
    };
    auto error = []() -> Coro<int> {
        co_await try_await(sleep(1h));
        throw ValueError("in cleanup");
    };
    auto main = [&]() -> Coro<> {
        int result = co_await wait_for(value(), 1s);
        EXPECT_EQ(result, 7);
        std::string text = co_await thrown_by_await(wait_for(error(), 1s));
        EXPECT_EQ(text, "ValueError: in cleanup");
        EXPECT_EQ(current_task().cancelling(), 0);
        result = co_await wait_for(create_task(value()), 1s);
        EXPECT_EQ(result, 7);
    };
    run_virtual(main());
}

TEST(WaitFor, zero_or_less_takes_only_what_is_done_and_never_begins_a_coroutine) {
    auto main = []() -> Coro<> {
        bool begun = false;
        auto coro = [&]() -> Coro<int> {
            begun = true;
            co_return 1;
        };
        std::string error = co_await thrown_by_await(wait_for(coro(), 0s));
        EXPECT_EQ(error, "TimeoutError: timed out");
        error = co_await thrown_by_await(wait_for(coro(), -1s));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_FALSE(begun);
        Future<int> done = get_running_loop().create_future<int>();
        done.set_result(4);
        int value = co_await wait_for(done, 0s);
        EXPECT_EQ(value, 4);
        Future<int> failed = get_running_loop().create_future<int>();
        failed.set_exception(ValueError("no"));
        error = co_await thrown_by_await(wait_for(failed, 0s));
        EXPECT_EQ(error, "ValueError: no");
        Future<int> pending = get_running_loop().create_future<int>();
        error = co_await thrown_by_await(wait_for(pending, 0s));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_TRUE(pending.cancelled());
    };
    run_virtual(main());
}

TEST(WaitFor, the_cause_of_its_timeout_is_the_cancellation) {
    auto main = []() -> Coro<> {
        auto outcome = co_await try_await(wait_for(give_after(1h, 1), 1s));
        try {
            outcome.value();
            ADD_FAILURE();
        } catch (const TimeoutError& e) {
            EXPECT_EQ(error_text(e.cause()), "CancelledError");
        }
    };
    run_virtual(main());
}

TEST(WaitFor, cancelled_from_outside_is_a_cancellation) {
    Log log;
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(wait_for(cleaning(log, "cleaned", 1s), 1h));
        co_await sleep(1s);
        task.cancel("outside");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: outside");
        EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(log, (Log{"cleaned"}));
    };
    run_virtual(main());
}

// ---- shield

TEST(Shield, passes_result_error_and_cancellation_outwards) {
    auto main = []() -> Coro<> {
        int value = co_await shield(give_after(1s, 3));
        EXPECT_EQ(value, 3);
        std::string error = co_await thrown_by_await(shield(fail_after(1s, "inner")));
        EXPECT_EQ(error, "ValueError: inner");
        Task<int> inner = create_task(give_after(1h, 1));
        auto outer = shield(inner);
        co_await sleep(1s);
        inner.cancel();
        auto outcome = co_await try_await(outer);
        EXPECT_TRUE(outcome.cancelled());
        EXPECT_TRUE(outer.cancelled());
        MoveOnly moved = co_await shield([]() -> Coro<MoveOnly> { co_return MoveOnly(5); }());
        EXPECT_EQ(moved.value, 5);
        co_await shield(sleep(1s));
    };
    run_virtual(main());
}

TEST(Shield, of_a_finished_future_is_that_future) {
    auto main = []() -> Coro<> {
        Future<int> done = get_running_loop().create_future<int>();
        done.set_result(4);
        EXPECT_TRUE(shield(done) == done);
        co_return;
    };
    run_virtual(main());
}

TEST(Shield, cancelled_leaves_the_inner_alone) {
    auto main = []() -> Coro<> {
        Task<int> inner = create_task(give_after(5s, 1));
        auto waiting = [](Task<int> task) -> Coro<> { co_await shield(task); };
        Task<> waiter = create_task(waiting(inner));
        co_await sleep(1s);
        waiter.cancel();
        co_await try_await(waiter);
        EXPECT_TRUE(waiter.cancelled());
        EXPECT_EQ(inner.cancelling(), 0);
        int value = co_await inner;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
}

TEST(Shield, an_inner_error_after_the_outer_was_cancelled_is_reported) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        Task<int> inner = create_task(fail_after(5s, "late"));
        auto outer = shield(inner);
        co_await sleep(1s);
        outer.cancel();
        co_await sleep(10s);
        EXPECT_EQ(error_text(inner.exception()), "ValueError: late");
    };
    run_virtual(main());
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message, "ValueError exception in shielded future");
    EXPECT_EQ(reports[0].error, "ValueError: late");
}

TEST(Shield, whose_inner_ends_well_or_cancelled_after_the_outer_reports_nothing) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        Task<int> good = create_task(give_after(5s, 1));
        Task<int> cancelled = create_task(give_after(1h, 1));
        auto first = shield(good);
        auto second = shield(cancelled);
        co_await sleep(1s);
        first.cancel();
        second.cancel();
        co_await sleep(1s);
        cancelled.cancel();
        co_await sleep(10s);
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), Log());
}

TEST(Shield, left_behind_with_its_loop_leaks_nothing) {
    long before = Alive::count();
    LogRecorder quiet;
    {
        auto loop = coil::testing::virtual_loop();
        auto child = [](Alive) -> Coro<> { co_await sleep(1h); };
        auto main = [&]() -> Coro<> { co_await shield(child(Alive())); };
        {
            Task<> task = loop->create_task(main());
        }
        for (int i = 0; i < 3; ++i) run_one_turn(*loop);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Shield, of_a_future_that_nobody_ends_leaks_nothing) {
    // The two futures must not keep each other alive.
    long before = Alive::count();
    auto main = []() -> Coro<> {
        {
            Future<> inner = get_running_loop().create_future();
            inner.add_done_callback([alive = Alive()](Future<>) {});
            Future<> outer = shield(inner);
        }
        co_return;
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
}

// ---- as_completed

namespace {

std::vector<Coro<int>> three() {
    std::vector<Coro<int>> coros;
    for (int i : {3, 1, 2}) coros.push_back(give_after(std::chrono::seconds(i), i));
    return coros;
}

}  // namespace

TEST(AsCompleted, gives_results_in_the_order_of_completion) {
    auto main = []() -> Coro<> {
        std::vector<int> values;
        auto all = as_completed(three());
        for (auto& next : all) {
            int value = co_await next;
            values.push_back(value);
            EXPECT_EQ(now().time_since_epoch(), Duration(std::chrono::seconds(1 + value)));
        }
        EXPECT_EQ(values, (std::vector<int>{1, 2, 3}));
        for (auto& next : all) {
            co_await next;
            ADD_FAILURE() << "there are no more";
        }
    };
    run_virtual(main());
}

TEST(AsCompleted, and_the_others_say_so_of_an_empty_handle) {
    run_virtual([]() -> Coro<> {
        const std::string text =
            "RuntimeError: this Future or Task handle is empty: assign one before using it";
        std::vector<Future<int>> empty(1);
        EXPECT_EQ(thrown_by([&] { static_cast<void>(as_completed(empty)); }), text);
        EXPECT_EQ(co_await thrown_by_await(wait(empty)), text);
        EXPECT_EQ(co_await thrown_by_await(wait_for(empty[0], 0s)), text);
    }());
}

TEST(AsCompleted, throws_at_the_await_what_a_child_threw_and_goes_on) {
    Log log;
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        Task<int> victim = create_task(give_after(1h, 0));
        std::vector<Task<int>> tasks{create_task(give_after(3s, 3)), victim,
                                     create_task(fail_after(1s, "bad"))};
        get_running_loop().call_later(2s, [victim]() mutable { victim.cancel("gone"); });
        auto all = as_completed(tasks);
        for (auto& next : all) {
            auto outcome = co_await try_await(std::move(next));
            log.push_back(outcome.has_value() ? std::to_string(*outcome) : error_text(outcome.exception()));
        }
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"ValueError: bad", "CancelledError: gone", "3"}));
    EXPECT_EQ(reports.texts(), Log());
}

TEST(AsCompleted, after_its_time_each_that_is_open_throws_and_nothing_is_cancelled) {
    Log log;
    auto main = [&]() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(9s, 9)), create_task(give_after(1s, 1)),
                                     create_task(give_after(3s, 3))};
        auto all = as_completed(tasks, {.timeout = 2s});
        for (auto& next : all) {
            auto outcome = co_await try_await(std::move(next));
            log.push_back(outcome.has_value() ? std::to_string(*outcome) : error_text(outcome.exception()));
            co_await sleep(3s);  // the second one is done before it is asked for, and too late
        }
        EXPECT_EQ(log, (Log{"1", "TimeoutError: timed out", "TimeoutError: timed out"}));
        int late = co_await tasks[0];
        EXPECT_EQ(late, 9);

        auto again = as_completed(std::vector<Task<int>>{create_task(give_after(5s, 5))}, {.timeout = 1s});
        std::string error = co_await thrown_by_await(again.next());
        EXPECT_EQ(error, "TimeoutError: timed out");
        auto none = co_await again.next();
        EXPECT_FALSE(none.has_value());
    };
    run_virtual(main());
}

TEST(AsCompleted, with_no_time_gives_what_is_done_already) {
    auto main = []() -> Coro<> {
        for (Duration limit : {Duration(0s), Duration(-1s)}) {
            Future<int> ready = get_running_loop().create_future<int>();
            ready.set_result(1);
            std::vector<Future<int>> futures{get_running_loop().create_future<int>(), ready};
            auto all = as_completed(futures, {.timeout = limit});
            auto first = co_await all.next();
            EXPECT_EQ(first, ready);
            std::string error = co_await thrown_by_await(all.next());
            EXPECT_EQ(error, "TimeoutError: timed out");
        }
    };
    run_virtual(main());
}

TEST(AsCompleted, left_early_leaves_the_rest_running) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(2s, 2)), create_task(give_after(1s, 1))};
        {
            auto all = as_completed(tasks, {.timeout = 1h});
            for (auto& next : all) {
                int value = co_await next;
                EXPECT_EQ(value, 1);
                break;
            }
        }
        EXPECT_FALSE(tasks[0].done());
        EXPECT_EQ(tasks[0].cancelling(), 0);
        int value = co_await tasks[0];
        EXPECT_EQ(value, 2);
        EXPECT_EQ(now().time_since_epoch(), Duration(3s));
    };
    run_virtual(main());
}

TEST(AsCompleted, may_be_looped_over_in_two_parts) {
    auto main = []() -> Coro<> {
        auto all = as_completed(three());
        std::vector<int> values;
        for (auto& next : all) {
            int value = co_await next;
            values.push_back(value);
            break;
        }
        for (auto& next : all) {
            int value = co_await next;
            values.push_back(value);
        }
        EXPECT_EQ(values, (std::vector<int>{1, 2, 3}));
    };
    run_virtual(main());
}

TEST(AsCompleted, gives_futures_that_are_done_already_first) {
    auto main = []() -> Coro<> {
        EventLoop& loop = get_running_loop();
        std::vector<Future<int>> futures;
        for (int i = 0; i < 4; ++i) futures.push_back(loop.create_future<int>());
        futures[1].set_result(1);
        futures[3].set_exception(ValueError("three"));
        loop.call_later(1s, [future = futures[2]]() mutable { future.set_result(2); });
        loop.call_later(2s, [future = futures[0]]() mutable { future.set_result(0); });
        auto all = as_completed(futures);
        std::vector<std::size_t> order;
        while (auto done = co_await all.next()) {
            EXPECT_TRUE(done->done());
            order.push_back(static_cast<std::size_t>(std::ranges::find(futures, *done) - futures.begin()));
        }
        EXPECT_EQ(order, (std::vector<std::size_t>{1, 3, 2, 0}));
        EXPECT_EQ(error_text(futures[3].exception()), "ValueError: three");
    };
    run_virtual(main());
}

TEST(AsCompleted, gives_a_duplicate_once) {
    auto main = []() -> Coro<> {
        Task<int> one = create_task(give_after(1s, 1));
        Task<int> two = create_task(give_after(2s, 2));
        std::vector<Task<int>> tasks{two, one, one, two, one};
        std::vector<int> values;
        auto all = as_completed(tasks);
        for (auto& next : all) {
            int value = co_await next;
            values.push_back(value);
        }
        EXPECT_EQ(values, (std::vector<int>{1, 2}));
    };
    run_virtual(main());
}

TEST(AsCompleted, of_nothing_gives_nothing) {
    auto main = []() -> Coro<> {
        auto none = as_completed(std::vector<Coro<int>>(), {.timeout = 1h});
        int count = 0;
        for ([[maybe_unused]] auto& next : none) ++count;
        EXPECT_EQ(count, 0);
        auto next = co_await none.next();
        EXPECT_FALSE(next.has_value());
        EXPECT_EQ(now().time_since_epoch(), Duration(1s));
    };
    run_virtual(main());
}

TEST(AsCompleted, gives_results_of_void) {
    Log log;
    auto child = [&](Duration delay, std::string name) -> Coro<> {
        co_await sleep(delay);
        log.push_back(name);
    };
    auto main = [&]() -> Coro<> {
        std::vector<Coro<>> coros;
        coros.push_back(child(2s, "two"));
        coros.push_back(child(1s, "one"));
        auto all = as_completed(std::move(coros));
        std::size_t count = 0;
        for (auto& next : all) {
            co_await next;
            EXPECT_EQ(log.size(), ++count);
        }
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"one", "two"}));
}

TEST(AsCompleted, moves_the_results_of_coroutines_and_copies_those_of_kept_tasks) {
    auto make = [](Duration delay, int i) -> Coro<std::unique_ptr<int>> {
        co_await sleep(delay);
        co_return std::make_unique<int>(i);
    };
    auto text = []() -> Coro<std::string> { co_return "long enough to be moved away"; };
    auto main = [&]() -> Coro<> {
        std::vector<Coro<std::unique_ptr<int>>> coros;
        coros.push_back(make(2s, 2));
        coros.push_back(make(1s, 1));
        std::vector<int> values;
        auto all = as_completed(std::move(coros));
        for (auto& next : all) {
            std::unique_ptr<int> value = co_await next;
            values.push_back(*value);
        }
        EXPECT_EQ(values, (std::vector<int>{1, 2}));

        std::vector<Task<std::unique_ptr<int>>> tasks{create_task(make(1s, 7))};
        auto kept = as_completed(tasks);
        auto task = co_await kept.next();
        std::unique_ptr<int> value = co_await std::move(*task);
        EXPECT_EQ(*value, 7);

        std::vector<Task<std::string>> texts{create_task(text())};
        auto copied = as_completed(texts);
        for (auto& next : copied) {
            std::string copy = co_await next;
            EXPECT_EQ(copy, texts[0].result());
        }
    };
    run_virtual(main());
}

TEST(AsCompleted, hands_out_completions_that_may_be_gathered) {
    auto main = []() -> Coro<> {
        std::vector<Completion<int>> completions;
        auto all = as_completed(three());
        for (auto& next : all) completions.push_back(std::move(next));
        std::vector<int> values = co_await gather(std::move(completions));
        EXPECT_EQ(values, (std::vector<int>{1, 2, 3}));

        auto more = as_completed(three());
        auto it = more.begin();
        auto both = gather(std::move(*it), give(8));
        ++it;
        int value = co_await wait_for(std::move(*it), 1h);
        EXPECT_EQ(value, 1) << "in the order in which they begin to wait: wait_for() makes no task";
        auto [two, eight] = co_await both;
        EXPECT_EQ(two, 2);
        EXPECT_EQ(eight, 8);
    };
    run_virtual(main());
}

TEST(AsCompleted, next_gives_the_tasks_themselves_and_then_nothing) {
    auto main = []() -> Coro<> {
        std::vector<Task<int>> tasks{create_task(give_after(2s, 2)), create_task(fail_after(1s, "no"))};
        auto all = as_completed(tasks);
        auto first = co_await all.next();
        EXPECT_TRUE(first && *first == tasks[1]);
        static_assert(std::is_same_v<decltype(first), std::optional<Task<int>>>);
        EXPECT_TRUE(first->done());
        EXPECT_EQ(error_text(first->exception()), "ValueError: no");
        auto second = co_await all.next();
        EXPECT_TRUE(second && *second == tasks[0]);
        for (int i = 0; i < 2; ++i) {
            auto none = co_await all.next();
            EXPECT_FALSE(none.has_value());
        }
        auto one = as_completed(std::vector<Future<int>>{tasks[0]});
        auto future = co_await one.next();
        static_assert(std::is_same_v<decltype(future), std::optional<Future<int>>>);
        EXPECT_EQ(future, tasks[0]);
    };
    run_virtual(main());
}

TEST(AsCompleted, a_completion_that_is_never_awaited_takes_no_result) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        std::vector<int> values;
        int count = 0;
        auto all = as_completed(three());
        for (auto& next : all) {
            if (++count == 1) continue;
            int value = co_await next;
            values.push_back(value);
        }
        EXPECT_EQ(count, 3);
        EXPECT_EQ(values, (std::vector<int>{1, 2}));
        co_await sleep(5s);
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), Log());
}

TEST(AsCompleted, outlived_by_its_completions_still_gives_them) {
    auto main = []() -> Coro<> {
        std::optional<Completion<int>> kept;
        {
            auto all = as_completed(three());
            kept.emplace(std::move(*all.begin()));
        }
        int value = co_await *kept;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
}

TEST(AsCompleted, dropped_at_once_lets_the_children_run_and_reports_their_errors) {
    Reports reports;
    int finished = 0;
    long before = Alive::count();
    auto child = [&]() -> Coro<Alive> {
        co_await sleep(1s);
        ++finished;
        co_return Alive();
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        std::vector<Coro<Alive>> coros;
        for (int i = 0; i < 2; ++i) coros.push_back(child());
        {
            auto dropped = as_completed(std::move(coros), {.timeout = 1h});
        }
        std::vector<Coro<int>> failing;
        failing.push_back(fail_after(1s, "nobody"));
        {
            auto dropped = as_completed(std::move(failing));
        }
        co_await sleep(5s);
        EXPECT_EQ(finished, 2);
        EXPECT_EQ(Alive::count(), before) << "the results, although the time is not over";
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), (Log{"Task exception was never retrieved: ValueError: nobody"}));
}

TEST(AsCompleted, of_kept_tasks_reports_no_errors_of_those_that_nobody_asked_for) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        std::vector<Task<int>> tasks{create_task(fail_after(1s, "seen"))};
        {
            auto dropped = as_completed(tasks);
        }
        std::string error = co_await thrown_by_await(tasks[0]);
        EXPECT_EQ(error, "ValueError: seen");
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), Log());
}

TEST(AsCompleted, left_behind_with_its_loop_leaks_nothing) {
    long before = Alive::count();
    LogRecorder quiet;
    for (bool by_next : {false, true}) {
        for (std::optional<Duration> limit : {std::optional<Duration>(), std::optional<Duration>(2h)}) {
            auto loop = coil::testing::virtual_loop();
            auto child = [](Duration delay, Alive alive) -> Coro<Alive> {
                co_await sleep(delay);
                co_return alive;
            };
            auto main = [&]() -> Coro<> {
                Alive alive;
                std::vector<Coro<Alive>> coros;
                for (Duration delay : {Duration(0s), Duration(0s), Duration(1h)}) {
                    coros.push_back(child(delay, Alive()));
                }
                auto all = as_completed(std::move(coros), {.timeout = limit});
                if (by_next) {
                    co_await all.next();
                    co_await sleep(1h);  // the result of the second one stays where it is
                } else {
                    for (auto& next : all) co_await next;
                }
            };
            {
                Task<> task = loop->create_task(main());
            }
            for (int i = 0; i < 6; ++i) run_one_turn(*loop);
            EXPECT_GT(Alive::count(), before);
            loop->close();
            loop.reset();
            EXPECT_EQ(Alive::count(), before);
        }
    }
}

TEST(AsCompleted, of_coroutines_needs_a_loop) {
    EXPECT_EQ(thrown_by([] {
                  std::vector<Coro<int>> coros;
                  coros.push_back(give(1));
                  auto all = as_completed(std::move(coros));
              }).substr(0, 12),
              "RuntimeError");
}
