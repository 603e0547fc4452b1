#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;
TimePoint now() { return get_running_loop().time(); }

}  // namespace

TEST(Timeout, in_time_gives_the_bodys_result) {
    auto main = []() -> Coro<> {
        auto body = [](Timeout& limit) -> Coro<int> {
            EXPECT_EQ(*limit.when(), now() + 2s);
            co_await sleep(1s);
            EXPECT_FALSE(limit.expired());
            co_return 3;
        };
        int value = co_await async_with(timeout(2s), body);
        EXPECT_EQ(value, 3);
        co_await sleep(10s);
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Timeout, that_expires_is_a_CancelledError_inside_and_a_TimeoutError_outside) {
    Log log;
    auto main = [&]() -> Coro<> {
        Timeout limit = timeout(2s);
        auto body = [&](Timeout& t) -> Coro<> {
            auto outcome = co_await try_await(sleep(1h));
            log.push_back("inside " + error_text(outcome.exception()) + (t.expired() ? " expired" : ""));
            co_await sleep(1s);
            outcome.value();
        };
        auto outcome = co_await try_await(async_with(limit, body));
        log.push_back("outside " + error_text(outcome.exception()));
        EXPECT_TRUE(limit.expired());
        EXPECT_EQ(now().time_since_epoch(), Duration(4s));
        EXPECT_EQ(current_task().cancelling(), 0);
        try {
            outcome.value();
        } catch (const TimeoutError& e) {
            EXPECT_EQ(error_text(e.cause()), "CancelledError");
        }
        co_await sleep(1s);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"inside CancelledError expired", "outside TimeoutError: timed out"}));
}

TEST(Timeout, without_a_limit_never_fires) {
    auto main = []() -> Coro<> {
        auto body = [](Timeout& limit) -> Coro<> {
            EXPECT_FALSE(limit.when().has_value());
            co_await sleep(1000h);
        };
        co_await async_with(timeout(std::nullopt), body);
        co_await async_with(timeout_at(std::nullopt), body);
    };
    run_virtual(main());
}

TEST(Timeout, counts_from_the_call_and_not_from_the_entry) {
    auto main = []() -> Coro<> {
        Timeout limit = timeout(3s);
        co_await sleep(2s);
        auto body = [](Timeout&) -> Coro<> { co_await sleep(1h); };
        std::string error = co_await thrown_by_await(async_with(limit, body));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_EQ(now().time_since_epoch(), Duration(4s));
    };
    run_virtual(main());
}

TEST(Timeout, at_a_point_in_time) {
    auto main = []() -> Coro<> {
        auto body = [](Timeout&) -> Coro<> { co_await sleep(1h); };
        TimePoint when = now() + 5s;
        std::string error = co_await thrown_by_await(async_with(timeout_at(when), body));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_EQ(now(), when);
    };
    run_virtual(main());
}

TEST(Timeout, of_zero_or_in_the_past_runs_the_body_to_its_first_suspension) {
    auto main = []() -> Coro<> {
        for (Duration delay : {Duration(0), Duration(-5s), Duration::min()}) {
            bool begun = false;
            Timeout limit = timeout(delay);
            auto body = [&](Timeout&) -> Coro<> {
                begun = true;
                co_await sleep(1h);
            };
            std::string error = co_await thrown_by_await(async_with(limit, body));
            EXPECT_EQ(error, "TimeoutError: timed out");
            EXPECT_TRUE(begun);
            Timeout harmless = timeout(delay);
            auto quick = [](Timeout&) -> Coro<int> { co_return 1; };
            int value = co_await async_with(harmless, quick);
            EXPECT_EQ(value, 1);
            EXPECT_FALSE(harmless.expired());
            co_await sleep(1s);
        }
    };
    run_virtual(main());
}

TEST(Timeout, of_a_huge_duration_does_not_overflow) {
    auto main = []() -> Coro<> {
        auto body = [](Timeout&) -> Coro<> { co_await sleep(24h); };
        co_await async_with(timeout(Duration::max()), body);
        co_await async_with(timeout(std::chrono::duration<double>(std::numeric_limits<double>::infinity())),
                            body);
        std::chrono::duration<double> nan(std::numeric_limits<double>::quiet_NaN());
        EXPECT_EQ(thrown_by([&] { return timeout(nan); }).substr(0, 10), "ValueError");
    };
    run_virtual(main());
}

TEST(Timeout, a_body_that_swallows_or_replaces_the_cancellation_keeps_its_outcome) {
    auto main = []() -> Coro<> {
        Timeout limit = timeout(1s);
        auto swallows = [](Timeout&) -> Coro<int> {
            co_await try_await(sleep(1h));
            co_return 5;
        };
        int value = co_await async_with(limit, swallows);
        EXPECT_EQ(value, 5);
        EXPECT_TRUE(limit.expired());
        EXPECT_EQ(current_task().cancelling(), 0);
        auto replaces = [](Timeout&) -> Coro<> {
            co_await try_await(sleep(1h));
            throw ValueError("instead");
        };
        std::string error = co_await thrown_by_await(async_with(timeout(1s), replaces));
        EXPECT_EQ(error, "ValueError: instead");
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Timeout, cancelled_from_outside_in_the_same_turn_is_a_cancellation) {
    auto block = []() -> Coro<> {
        auto body = [](Timeout&) -> Coro<> { co_await sleep(1h); };
        co_await async_with(timeout(1s), body);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(block());
        get_running_loop().call_later(1s, [&] { task.cancel("outside"); });
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error.substr(0, 14), "CancelledError");
        EXPECT_TRUE(task.cancelled());
        Task<> second = create_task(block());
        co_await sleep(0s);
        get_running_loop().call_later(1s, [&] { second.cancel("outside"); });
        error = co_await thrown_by_await(second);
        EXPECT_EQ(error.substr(0, 14), "CancelledError");
    };
    run_virtual(main());
}

TEST(Timeout, nested_ones_convert_only_their_own_expiry) {
    auto nested = [](Duration outer, Duration inner) -> Coro<std::string> {
        std::string text;
        auto inside = [](Timeout&) -> Coro<> { co_await sleep(1h); };
        auto outside = [&](Timeout&) -> Coro<> {
            auto outcome = co_await try_await(async_with(timeout(inner), inside));
            text = "inner " + error_text(outcome.exception());
            outcome.value();
        };
        std::string error = co_await thrown_by_await(async_with(timeout(outer), outside));
        text += ", outer " + error;
        co_return text;
    };
    auto main = [&]() -> Coro<> {
        std::string inner_first = co_await nested(2s, 1s);
        EXPECT_EQ(inner_first, "inner TimeoutError: timed out, outer TimeoutError: timed out");
        std::string outer_first = co_await nested(1s, 2s);
        EXPECT_EQ(outer_first, "inner CancelledError, outer TimeoutError: timed out");
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Timeout, can_be_rescheduled_while_it_is_active) {
    auto main = []() -> Coro<> {
        auto body = [](Timeout& limit) -> Coro<> {
            limit.reschedule(now() + 10s);
            co_await sleep(5s);
            limit.reschedule(std::nullopt);
            EXPECT_FALSE(limit.when().has_value());
            co_await sleep(100s);
            limit.reschedule(now() - 1s);
            co_await sleep(1h);
        };
        std::string error = co_await thrown_by_await(async_with(timeout(1s), body));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_EQ(now().time_since_epoch(), Duration(106s));
    };
    run_virtual(main());
}

TEST(Timeout, around_a_task_group_is_a_plain_TimeoutError) {
    auto main = []() -> Coro<> {
        auto child = []() -> Coro<> { co_await sleep(1h); };
        auto group_body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(child());
            co_return;
        };
        auto body = [&](Timeout&) -> Coro<> { co_await async_with(TaskGroup(), group_body); };
        std::string error = co_await thrown_by_await(async_with(timeout(1s), body));
        EXPECT_EQ(error, "TimeoutError: timed out");
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Timeout, of_a_block_that_was_left_never_fires_later) {
    auto main = []() -> Coro<> {
        auto failing = [](Timeout&) -> Coro<> {
            throw ValueError("left");
            co_return;
        };
        std::string error = co_await thrown_by_await(async_with(timeout(1s), failing));
        EXPECT_EQ(error, "ValueError: left");
        co_await sleep(5s);
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}
