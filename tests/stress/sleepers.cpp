// A million tasks that sleep, woken in order or cancelled; ten thousand that are cancelled in one turn.

#include <gtest/gtest.h>

#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::Alive;
using support::run_virtual;

namespace {

constexpr int MILLION = 1'000'000;

Coro<> sleep_and_count(Duration delay, int& woken) {
    Alive here;
    co_await coil::sleep(delay);
    ++woken;
}

TEST(Sleepers, a_million_tasks_sleep_and_wake) {
    long alive = Alive::count();
    run_virtual([]() -> Coro<> {
        int woken = 0;
        for (int i = 0; i < MILLION; ++i)
            create_task(sleep_and_count(std::chrono::milliseconds(i % 1000 + 1), woken));
        co_await coil::sleep(500ms);
        EXPECT_EQ(Alive::count(), MILLION - woken);
        EXPECT_GE(woken, MILLION / 2 - MILLION / 1000);
        co_await coil::sleep(501ms);
        EXPECT_EQ(woken, MILLION);
        EXPECT_EQ(all_tasks().size(), 1u);
    }());
    EXPECT_EQ(Alive::count(), alive);
}

TEST(Sleepers, a_million_sleeping_tasks_are_cancelled_by_the_end_of_the_run) {
    long alive = Alive::count();
    int woken = 0;
    run_virtual([](int& count) -> Coro<> {
        for (int i = 0; i < MILLION; ++i) create_task(sleep_and_count(1h, count));
        co_await coil::sleep(0s);
        EXPECT_EQ(Alive::count(), MILLION);
    }(woken));
    EXPECT_EQ(woken, 0);
    EXPECT_EQ(Alive::count(), alive);
}

TEST(Sleepers, ten_thousand_tasks_cancelled_in_one_turn_end_two_turns_later) {
    run_virtual([]() -> Coro<> {
        constexpr int COUNT = 10'000;
        int woken = 0;
        std::vector<Task<>> tasks;
        for (int i = 0; i < COUNT; ++i) tasks.push_back(create_task(sleep_and_count(1h, woken)));
        co_await coil::sleep(0s);
        for (Task<>& task : tasks) EXPECT_TRUE(task.cancel());
        co_await coil::sleep(0s);
        for (Task<>& task : tasks) EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(woken, 0);
        EXPECT_EQ(Alive::count(), 0);
    }());
}

}  // namespace
