#include "coil/concurrent.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/errors.hpp"
#include "support/gate.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

TEST(Concurrent, a_future_goes_through_its_states) {
    concurrent::Future<int> future;
    EXPECT_FALSE(future.done());
    EXPECT_FALSE(future.running());
    EXPECT_TRUE(future.set_running_or_notify_cancel());
    EXPECT_TRUE(future.running());
    EXPECT_FALSE(future.cancel());
    future.set_result(7);
    EXPECT_TRUE(future.done());
    EXPECT_FALSE(future.running());
    EXPECT_FALSE(future.cancelled());
    EXPECT_FALSE(future.cancel());
    EXPECT_EQ(future.result(), 7);
    EXPECT_EQ(future.exception(), nullptr);
}

TEST(Concurrent, a_cancelled_future_is_not_begun) {
    concurrent::Future<> future;
    EXPECT_TRUE(future.cancel());
    EXPECT_TRUE(future.cancel());
    EXPECT_TRUE(future.cancelled());
    EXPECT_TRUE(future.done());
    EXPECT_FALSE(future.set_running_or_notify_cancel());
    EXPECT_EQ(thrown_by([&] { future.set_running_or_notify_cancel(); }),
              "RuntimeError: Future in unexpected state");
    EXPECT_EQ(thrown_by([&] { future.result(); }), "CancelledError: the concurrent future was cancelled");
    EXPECT_EQ(thrown_by([&] { future.exception(); }), "CancelledError: the concurrent future was cancelled");
}

TEST(Concurrent, misuse_is_told) {
    concurrent::Future<int> future;
    EXPECT_EQ(thrown_by([&] { future.set_exception(std::exception_ptr()); }),
              "TypeError: set_exception() needs an exception");
    future.set_result(1);
    const char* done = "InvalidStateError: the concurrent future is done already";
    EXPECT_EQ(thrown_by([&] { future.set_result(2); }), done);
    EXPECT_EQ(thrown_by([&] { future.set_exception(ValueError("late")); }), done);
    EXPECT_EQ(future.result(), 1);
    concurrent::Future<int> cancelled;
    cancelled.cancel();
    EXPECT_EQ(thrown_by([&] { cancelled.set_result(2); }), done);
    concurrent::Future<int> begun;
    EXPECT_TRUE(begun.set_running_or_notify_cancel());
    EXPECT_EQ(thrown_by([&] { begun.set_running_or_notify_cancel(); }),
              "RuntimeError: Future in unexpected state");
}

TEST(Concurrent, result_waits_for_another_thread) {
    concurrent::Future<std::string> future;
    Gate gate;
    std::thread thread([&] {
        gate.pass();
        future.set_result("from the thread");
    });
    EXPECT_EQ(thrown_by([&] { future.result(0s); }), "TimeoutError: timed out");
    EXPECT_EQ(thrown_by([&] { future.exception(1ns); }), "TimeoutError: timed out");
    gate.open();
    EXPECT_EQ(future.result(Duration::max()), "from the thread");
    thread.join();
}

TEST(Concurrent, an_exception_is_thrown_to_all_who_ask) {
    concurrent::Future<int> future;
    future.set_exception(ValueError("broken"));
    for (int i = 0; i < 2; ++i) EXPECT_EQ(thrown_by([&] { future.result(); }), "ValueError: broken");
    EXPECT_EQ(error_text(future.exception()), "ValueError: broken");
}

TEST(Concurrent, an_exception_that_nobody_asks_for_is_logged) {
    LogRecorder log;
    {
        concurrent::Future<> future;
        future.set_exception(ValueError("nobody looks"));
        auto copy = future;
    }
    EXPECT_EQ(log.count("never retrieved"), 1u) << log.str();
    EXPECT_EQ(log.count("nobody looks"), 1u);
    {
        concurrent::Future<> seen;
        seen.set_exception(ValueError("seen"));
        static_cast<void>(seen.exception());
    }
    EXPECT_EQ(log.lines().size(), 1u) << log.str();
}

TEST(Concurrent, values_may_be_move_only_or_references) {
    concurrent::Future<std::unique_ptr<int>> box;
    box.set_result(std::make_unique<int>(3));
    EXPECT_EQ(*box.result(), 3);
    std::unique_ptr<int> taken = std::move(box).result();
    EXPECT_EQ(*taken, 3);
    int number = 4;
    concurrent::Future<int&> reference;
    reference.set_result(number);
    EXPECT_EQ(&reference.result(), &number);
}

TEST(Concurrent, callbacks_run_where_the_future_ends) {
    concurrent::Future<int> future;
    std::thread::id where;
    std::vector<int> seen;
    future.add_done_callback([&](concurrent::Future<int> ended) {
        where = std::this_thread::get_id();
        seen.push_back(ended.result());
    });
    std::thread thread([&] { future.set_result(5); });
    auto there = thread.get_id();
    thread.join();
    EXPECT_EQ(where, there);
    future.add_done_callback([&](concurrent::Future<int> ended) { seen.push_back(ended.result() + 1); });
    EXPECT_EQ(seen, (std::vector<int>{5, 6}));
    int cancellations = 0;
    concurrent::Future<> cancelled;
    cancelled.add_done_callback([&](concurrent::Future<> ended) { cancellations += ended.cancelled(); });
    cancelled.cancel();
    cancelled.cancel();
    EXPECT_EQ(cancellations, 1);
}

TEST(Concurrent, a_throwing_callback_is_logged_and_the_others_run) {
    LogRecorder log;
    concurrent::Future<> future;
    int calls = 0;
    future.add_done_callback([](concurrent::Future<>) { throw ValueError("in a callback"); });
    future.add_done_callback([](concurrent::Future<>) { throw 3; });
    future.add_done_callback([&](concurrent::Future<>) { ++calls; });
    future.set_result();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(log.count("exception calling a concurrent future's callback"), 2u) << log.str();
    EXPECT_EQ(log.count("in a callback"), 1u);
}

TEST(Concurrent, wait_has_three_modes) {
    std::vector<concurrent::Future<int>> futures(3);
    auto none = concurrent::wait(futures, {.timeout = 0s});
    EXPECT_EQ(none.done.size(), 0u);
    EXPECT_EQ(none.not_done.size(), 3u);
    futures[1].set_result(1);
    auto first = concurrent::wait(futures, {.return_when = FIRST_COMPLETED});
    ASSERT_EQ(first.done.size(), 1u);
    EXPECT_EQ(first.done[0], futures[1]);
    futures[2].set_exception(ValueError("two"));
    auto failed = concurrent::wait(futures, {.return_when = FIRST_EXCEPTION});
    EXPECT_EQ(failed.done.size(), 2u);
    EXPECT_EQ(failed.not_done.size(), 1u);
    futures[0].cancel();
    auto all = concurrent::wait(futures);
    EXPECT_EQ(all.done.size(), 3u);
    EXPECT_TRUE(all.not_done.empty());
    EXPECT_EQ(error_text(futures[2].exception()), "ValueError: two");
    EXPECT_TRUE(concurrent::wait(std::vector<concurrent::Future<>>()).done.empty());
}

TEST(Concurrent, wait_does_not_count_as_looking_at_an_exception) {
    LogRecorder log;
    {
        std::vector<concurrent::Future<>> futures(1);
        futures[0].set_exception(ValueError("unseen"));
        concurrent::wait(futures, {.return_when = FIRST_EXCEPTION});
    }
    EXPECT_EQ(log.count("unseen"), 1u) << log.str();
}

TEST(Concurrent, as_completed_gives_them_in_the_order_of_their_ends) {
    std::vector<concurrent::Future<int>> futures(3);
    futures[2].set_result(2);
    std::vector<int> order;
    std::thread thread;
    for (auto& future : concurrent::as_completed(futures)) {
        order.push_back(future.result());
        if (order.size() == 1) futures[0].set_result(0);
        if (order.size() == 2) thread = std::thread([&] { futures[1].set_result(1); });
    }
    thread.join();
    EXPECT_EQ(order, (std::vector<int>{2, 0, 1}));
}

TEST(Concurrent, as_completed_gives_up_when_time_is_up) {
    std::vector<concurrent::Future<int>> futures(3);
    futures[0].set_result(0);
    std::size_t given = 0;
    EXPECT_EQ(thrown_by([&] {
                  for (auto& future : concurrent::as_completed(futures, 1ms)) given += future.done();
              }),
              "TimeoutError: 2 (of 3) futures unfinished");
    EXPECT_EQ(given, 1u);
}

TEST(Concurrent, many_threads_may_wait_cancel_and_finish_at_once) {
    constexpr int ROUNDS = 500;
    for (int round = 0; round < ROUNDS; ++round) {
        concurrent::Future<int> future;
        std::atomic<int> calls = 0;
        future.add_done_callback([&](concurrent::Future<int>) { ++calls; });
        std::thread waiter([&] {
            auto text = thrown_by([&] { future.result(); });
            EXPECT_TRUE(text == "nothing" || text.starts_with("CancelledError")) << text;
        });
        std::thread canceller([&] { future.cancel(); });
        std::thread late([&] { future.add_done_callback([&](concurrent::Future<int>) { ++calls; }); });
        if (future.set_running_or_notify_cancel()) future.set_result(round);
        waiter.join();
        canceller.join();
        late.join();
        EXPECT_EQ(calls, 2);
    }
}

}  // namespace
