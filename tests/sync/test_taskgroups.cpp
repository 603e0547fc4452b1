#include <gtest/gtest.h>

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
Coro<> fail(std::string text, Duration delay = Duration(0)) {
    if (delay > Duration(0)) co_await sleep(delay);
    throw ValueError(text);
}
Coro<> slow(Log& log, std::string name, Duration cleanup = Duration(0)) {
    auto outcome = co_await try_await(sleep(1h));
    if (cleanup > Duration(0)) co_await sleep(cleanup);
    log.push_back(name + " " + error_text(outcome.exception()));
    outcome.value();
}

/// "message: [A: a, B: b]", nested groups likewise.
std::string group_text(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const ExceptionGroup& group) {
        std::string text = group.message() + ": [";
        for (const auto& member : group.exceptions()) {
            if (text.back() != '[') text += ", ";
            text += group_text(member);
        }
        return text + "]";
    } catch (...) {
        return error_text(error);
    }
}

template <class Body>
Coro<std::string> ended_with(Body& body) {
    auto outcome = co_await try_await(async_with(TaskGroup(), body));
    co_return outcome.has_value() ? "nothing" : group_text(outcome.exception());
}

}  // namespace

TEST(TaskGroup, waits_for_all_children_also_those_added_meanwhile) {
    Log log;
    auto grandchild = [&]() -> Coro<> {
        co_await sleep(5s);
        log.push_back("grandchild");
    };
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<int> {
            auto child = [&]() -> Coro<> {
                co_await sleep(1s);
                group.create_task(grandchild());
                log.push_back("child");
            };
            group.create_task(Coro<>(child()));
            co_await sleep(0s);
            co_await sleep(100ms);
            // The lambda must live while its coroutine does.
            co_await sleep(2s);
            co_return 4;
        };
        int value = co_await async_with(TaskGroup(), body);
        EXPECT_EQ(value, 4);
        EXPECT_EQ(get_running_loop().time().time_since_epoch(), Duration(7s));
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child", "grandchild"}));
}

TEST(TaskGroup, gives_its_children_as_tasks_with_names_and_results) {
    auto main = []() -> Coro<> {
        Task<int> kept;
        auto body = [&](TaskGroup& group) -> Coro<> {
            kept = group.create_task(give(3), {.name = "child"});
            EXPECT_EQ(kept.get_name(), "child");
            co_return;
        };
        co_await async_with(TaskGroup(), body);
        EXPECT_EQ(kept.result(), 3);
    };
    run_virtual(main());
}

TEST(TaskGroup, without_children_does_not_suspend) {
    auto main = []() -> Coro<> {
        bool ticked = false;
        get_running_loop().call_soon([&] { ticked = true; });
        auto body = [](TaskGroup&) -> Coro<> { co_return; };
        co_await async_with(TaskGroup(), body);
        EXPECT_FALSE(ticked);
        co_await sleep(0s);
    };
    run_virtual(main());
}

TEST(TaskGroup, a_failing_child_cancels_its_siblings_and_the_body_and_all_are_awaited) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "sibling", 2s));
            group.create_task(fail("child", 1s));
            auto outcome = co_await try_await(sleep(1h));
            log.push_back("body " + error_text(outcome.exception()));
            outcome.value();
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "unhandled errors in a TaskGroup: [ValueError: child]");
        EXPECT_EQ(current_task().cancelling(), 0);
        EXPECT_EQ(get_running_loop().time().time_since_epoch(), Duration(4s));
        co_await sleep(1s);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"body CancelledError", "sibling CancelledError"}));
}

TEST(TaskGroup, errors_come_in_order_of_completion_and_the_bodys_last) {
    auto cleanup_fails = []() -> Coro<> {
        co_await try_await(sleep(1h));
        co_await sleep(1s);
        throw TypeError("cleanup");
    };
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(cleanup_fails());
            group.create_task(fail("second", 2s));
            group.create_task(fail("first", 1s));
            co_await try_await(sleep(1h));
            throw LookupError("body");
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(
            error,
            "unhandled errors in a TaskGroup: [ValueError: first, TypeError: cleanup, LookupError: body]");
    };
    run_virtual(main());
}

TEST(TaskGroup, a_failing_body_cancels_the_children) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child"));
            co_await sleep(1s);
            throw ValueError("body");
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "unhandled errors in a TaskGroup: [ValueError: body]");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError"}));
}

TEST(TaskGroup, a_child_that_cancels_itself_is_no_error) {
    Log log;
    auto quits = []() -> Coro<> {
        co_await sleep(1s);
        throw CancelledError();
    };
    auto finishes = [&]() -> Coro<> {
        co_await sleep(3s);
        log.push_back("sibling finished");
    };
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(quits());
            group.create_task(finishes());
            co_return;
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "nothing");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"sibling finished"}));
}

TEST(TaskGroup, a_body_that_throws_CancelledError_cancels_the_children_and_passes_it_on) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child"));
            co_await sleep(1s);
            throw CancelledError("by hand");
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "CancelledError: by hand");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError"}));
}

TEST(TaskGroup, cancelled_from_outside_cancels_and_awaits_the_children) {
    Log log;
    auto block = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child", 2s));
            co_return;
        };
        co_await async_with(TaskGroup(), body);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(block());
        co_await sleep(1s);
        task.cancel("outside");
        co_await sleep(1s);
        EXPECT_FALSE(task.done());
        task.cancel("again");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: outside");
        EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(task.cancelling(), 2);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError"}));
}

TEST(TaskGroup, an_outside_cancel_that_meets_an_error_is_delivered_after_the_group) {
    Log log;
    auto fails_when_cancelled = []() -> Coro<> {
        co_await try_await(sleep(1h));
        throw ValueError("cleanup");
    };
    auto block = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(fails_when_cancelled());
            co_return;
        };
        std::string error = co_await ended_with(body);
        log.push_back(error);
        log.push_back("count " + std::to_string(current_task().cancelling()));
        std::string next = co_await thrown_by_await(sleep(1h));
        log.push_back(next);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(block());
        co_await sleep(1s);
        task.cancel();
        co_await task;
    };
    run_virtual(main());
    EXPECT_EQ(log,
              (Log{"unhandled errors in a TaskGroup: [ValueError: cleanup]", "count 1", "CancelledError"}));
}

TEST(TaskGroup, nested_groups_that_fail_together_give_nested_errors) {
    auto main = []() -> Coro<> {
        auto outer = [&](TaskGroup& outside) -> Coro<> {
            outside.create_task(fail("outer", 1s));
            auto inner = [&](TaskGroup& inside) -> Coro<> {
                inside.create_task(fail("inner", 1s));
                co_await sleep(1h);
            };
            co_await async_with(TaskGroup(), inner);
        };
        std::string error = co_await ended_with(outer);
        EXPECT_EQ(error,
                  "unhandled errors in a TaskGroup: [ValueError: outer, unhandled errors in a TaskGroup: "
                  "[ValueError: "
                  "inner]]");
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(1s);
    };
    run_virtual(main());
}

TEST(TaskGroup, an_error_while_the_exit_waits_leaves_the_cancel_count_as_it_was) {
    auto main = []() -> Coro<> {
        auto body = [](TaskGroup& group) -> Coro<> {
            group.create_task(fail("late", 1s));
            co_return;
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "unhandled errors in a TaskGroup: [ValueError: late]");
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(1s);
    };
    run_virtual(main());
}

TEST(TaskGroup, a_KeyboardInterrupt_of_a_child_comes_out_alone) {
    Log log;
    auto interrupt = []() -> Coro<> {
        co_await sleep(1s);
        throw KeyboardInterrupt();
    };
    auto block = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "sibling"));
            group.create_task(interrupt());
            co_return;
        };
        std::string error = co_await ended_with(body);
        log.push_back(error);
    };
    // It leaves run_forever as well; the group goes on when the loop does.
    VirtualLoop loop;
    Task<> task = loop->create_task(block());
    EXPECT_EQ(thrown_by([&] { loop->run_until_complete(task); }), "KeyboardInterrupt");
    loop->run_until_complete(task);
    EXPECT_EQ(log, (Log{"sibling CancelledError", "KeyboardInterrupt"}));
}

TEST(TaskGroup, a_KeyboardInterrupt_of_the_body_comes_out_alone) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child"));
            co_await sleep(1s);
            throw KeyboardInterrupt();
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "KeyboardInterrupt");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError"}));
}

TEST(TaskGroup, an_eager_child_that_fails_at_once_does_not_shut_the_group_before_the_next_turn) {
    // As CPython since 3.13.2: the failure arrives through a callback, also if the child is done already.
    auto main = []() -> Coro<> {
        bool second_ran = false;
        auto second = [&]() -> Coro<> {
            second_ran = true;
            co_return;
        };
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(fail("at once"), {.eager_start = true});
            group.create_task(second(), {.eager_start = true});
            co_return;
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "unhandled errors in a TaskGroup: [ValueError: at once]");
        EXPECT_TRUE(second_ran);
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(0s);
    };
    run_virtual(main());
}

TEST(TaskGroup, eager_children_that_are_done_count_as_done) {
    auto main = []() -> Coro<> {
        Task<int> child;
        auto body = [&](TaskGroup& group) -> Coro<> {
            child = group.create_task(give(2), {.eager_start = true});
            EXPECT_TRUE(child.done());
            co_return;
        };
        co_await async_with(TaskGroup(), body);
        EXPECT_EQ(child.result(), 2);
    };
    run_virtual(main());
}

TEST(TaskGroup, cancel_ends_children_and_body_without_an_error) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child"));
            co_await sleep(1s);
            group.cancel();
            group.cancel();
            auto outcome = co_await try_await(sleep(1h));
            log.push_back("body " + error_text(outcome.exception()));
            outcome.value();
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "nothing");
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(1s);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError", "body CancelledError"}));
}

TEST(TaskGroup, cancel_from_a_child_while_the_exit_waits_ends_the_others) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto stop = [](TaskGroup& group) -> Coro<> {
            co_await sleep(1s);
            group.cancel();
        };
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(slow(log, "child"));
            group.create_task(stop(group));
            co_return;
        };
        std::string error = co_await ended_with(body);
        EXPECT_EQ(error, "nothing");
        EXPECT_EQ(get_running_loop().time().time_since_epoch(), Duration(2s));
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child CancelledError"}));
}

TEST(TaskGroup, cancel_before_the_entry_acts_on_entry_and_after_the_exit_not_at_all) {
    auto main = []() -> Coro<> {
        bool went_on = false;
        auto body = [&](TaskGroup&) -> Coro<> {
            co_await sleep(1s);
            went_on = true;
        };
        TaskGroup early;
        early.cancel();
        co_await async_with(early, body);
        EXPECT_FALSE(went_on);
        TaskGroup late;
        co_await async_with(late, body);
        EXPECT_TRUE(went_on);
        late.cancel();
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(1s);
    };
    run_virtual(main());
}

TEST(TaskGroup, of_ten_thousand_children_ends_when_all_have) {
    auto main = []() -> Coro<> {
        int done = 0;
        auto child = [&](int i) -> Coro<> {
            co_await sleep(std::chrono::milliseconds(i % 50));
            ++done;
        };
        auto body = [&](TaskGroup& group) -> Coro<> {
            for (int i = 0; i < 10'000; ++i) group.create_task(child(i));
            co_return;
        };
        co_await async_with(TaskGroup(), body);
        EXPECT_EQ(done, 10'000);
    };
    run_virtual(main());
}

TEST(TaskGroup, leaves_nothing_behind_when_destroyed_with_its_loop) {
    long before = Alive::count();
    LogRecorder quiet;
    auto child = [](Alive) -> Coro<> { co_await sleep(1h); };
    auto block = [&]() -> Coro<> {
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(child(Alive()));
            group.create_task(child(Alive()));
            co_return;
        };
        co_await async_with(TaskGroup(), body);
    };
    {
        auto loop = coil::testing::virtual_loop();
        {
            Task<> task = loop->create_task(block());
        }
        for (int i = 0; i < 3; ++i) run_one_turn(*loop);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
}
