#include <gtest/gtest.h>

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

class FutureTest : public ::testing::Test {
  protected:
    VirtualLoop loop;
};

}  // namespace

TEST_F(FutureTest, a_pending_future_has_neither_result_nor_exception) {
    Future<int> future = loop->create_future<int>();
    EXPECT_FALSE(future.done());
    EXPECT_FALSE(future.cancelled());
    EXPECT_EQ(thrown_by([&] { return future.result(); }).substr(0, 38),
              "InvalidStateError: Result is not ready");
    EXPECT_EQ(thrown_by([&] { return future.exception(); }).substr(0, 39),
              "InvalidStateError: Exception is not set");
    EXPECT_EQ(&future.get_loop(), loop.get());
}

TEST_F(FutureTest, a_result_ends_it_once) {
    Future<std::string> future = loop->create_future<std::string>();
    future.set_result("done");
    EXPECT_TRUE(future.done());
    EXPECT_FALSE(future.cancelled());
    EXPECT_EQ(future.result(), "done");
    EXPECT_EQ(future.exception(), nullptr);
    EXPECT_EQ(thrown_by([&] { future.set_result("again"); }).substr(0, 17), "InvalidStateError");
    EXPECT_EQ(thrown_by([&] { future.set_exception(ValueError("late")); }).substr(0, 17),
              "InvalidStateError");
    EXPECT_FALSE(future.cancel());
    EXPECT_EQ(future.result(), "done");
}

TEST_F(FutureTest, result_refers_to_the_stored_value) {
    Future<std::string> future = loop->create_future<std::string>();
    Future<std::string> copy = future;
    future.set_result("x");
    static_assert(std::is_same_v<decltype(future.result()), const std::string&>);
    EXPECT_EQ(&future.result(), &copy.result());
}

TEST_F(FutureTest, an_exception_comes_out_of_result_and_exception) {
    Future<int> future = loop->create_future<int>();
    auto error = std::make_exception_ptr(ValueError("broken"));
    future.set_exception(error);
    EXPECT_TRUE(future.done());
    EXPECT_FALSE(future.cancelled());
    EXPECT_EQ(thrown_by([&] { return future.result(); }), "ValueError: broken");
    EXPECT_EQ(future.exception(), error);
}

TEST_F(FutureTest, a_null_exception_is_refused) {
    Future<int> future = loop->create_future<int>();
    EXPECT_EQ(thrown_by([&] { future.set_exception(std::exception_ptr()); }).substr(0, 9), "TypeError");
    EXPECT_FALSE(future.done());
}

TEST_F(FutureTest, cancelling_ends_it_with_the_message) {
    Future<int> future = loop->create_future<int>();
    EXPECT_TRUE(future.cancel("enough"));
    EXPECT_TRUE(future.done());
    EXPECT_TRUE(future.cancelled());
    EXPECT_EQ(thrown_by([&] { return future.result(); }), "CancelledError: enough");
    EXPECT_EQ(thrown_by([&] { return future.exception(); }), "CancelledError: enough");
    EXPECT_FALSE(future.cancel("more"));
    EXPECT_EQ(thrown_by([&] { future.set_result(1); }).substr(0, 17), "InvalidStateError");
}

TEST_F(FutureTest, callbacks_run_in_order_of_registration_and_never_inline) {
    Log log;
    Future<int> future = loop->create_future<int>();
    for (std::string name : {"a", "b", "c"}) {
        future.add_done_callback(
            [&log, name](Future<int> f) { log.push_back(name + std::to_string(f.result())); });
    }
    future.set_result(1);
    EXPECT_EQ(log, Log());
    future.add_done_callback([&log](Future<int>) { log.push_back("late"); });
    EXPECT_EQ(log, Log());
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"a1", "b1", "c1", "late"}));
}

TEST_F(FutureTest, callbacks_are_consecutive_among_other_callbacks) {
    Log log;
    Future<> future = loop->create_future();
    future.add_done_callback([&](Future<>) { log.push_back("first"); });
    future.add_done_callback([&](Future<>) { log.push_back("second"); });
    loop->call_soon([&] { log.push_back("before"); });
    future.set_result();
    loop->call_soon([&] { log.push_back("after"); });
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"before", "first", "second", "after"}));
}

TEST_F(FutureTest, the_same_callback_may_be_registered_twice_and_removed_at_once) {
    int calls = 0;
    Future<> future = loop->create_future();
    DoneCallback twice = future.add_done_callback([&](Future<>) { ++calls; });
    future.add_done_callback(twice);
    DoneCallback other = future.add_done_callback([&](Future<>) { calls += 10; });
    EXPECT_EQ(future.remove_done_callback(twice), 2u);
    EXPECT_EQ(future.remove_done_callback(twice), 0u);
    future.set_result();
    run_one_turn(*loop);
    EXPECT_EQ(calls, 10);
}

namespace {
int plain_calls = 0;
void plain_callback(Future<int>) { ++plain_calls; }
}  // namespace

TEST_F(FutureTest, a_plain_function_is_removed_by_its_name) {
    plain_calls = 0;
    Future<int> future = loop->create_future<int>();
    future.add_done_callback(plain_callback);
    future.add_done_callback(plain_callback);
    EXPECT_EQ(future.remove_done_callback(plain_callback), 2u);
    future.add_done_callback(plain_callback);
    future.set_result(1);
    run_one_turn(*loop);
    EXPECT_EQ(plain_calls, 1);
}

TEST_F(FutureTest, once_queued_a_callback_cannot_be_removed) {
    int calls = 0;
    Future<> future = loop->create_future();
    DoneCallback callback = future.add_done_callback([&](Future<>) { ++calls; });
    future.set_result();
    EXPECT_EQ(future.remove_done_callback(callback), 0u);
    run_one_turn(*loop);
    EXPECT_EQ(calls, 1);
}

TEST_F(FutureTest, a_callback_may_add_and_remove_callbacks_of_the_same_future) {
    Log log;
    Future<> future = loop->create_future();
    future.add_done_callback([&](Future<> f) {
        log.push_back("outer");
        f.add_done_callback([&](Future<>) { log.push_back("inner"); });
    });
    future.set_result();
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"outer"}));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"outer", "inner"}));
}

TEST_F(FutureTest, a_failing_callback_is_reported_and_the_others_run) {
    Reports reports(*loop);
    Log log;
    Future<> future = loop->create_future();
    future.add_done_callback([&](Future<>) { throw ValueError("in callback"); });
    future.add_done_callback([&](Future<>) { throw 5; });
    future.add_done_callback([&](Future<>) { log.push_back("ran"); });
    future.set_result();
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"ran"}));
    ASSERT_EQ(reports.size(), 2u);
    EXPECT_EQ(reports[0].error, "ValueError: in callback");
    EXPECT_EQ(reports[0].message.substr(0, 22), "Exception in callback ");
    EXPECT_EQ(reports[1].error, "int");
}

TEST_F(FutureTest, its_callbacks_keep_it_alive_until_they_have_run) {
    long before = Alive::count();
    int value = 0;
    {
        Future<std::pair<int, Alive>> future = loop->create_future<std::pair<int, Alive>>();
        future.add_done_callback([&](Future<std::pair<int, Alive>> f) { value = f.result().first; });
        future.set_result(std::pair<int, Alive>(7, Alive()));
    }
    EXPECT_EQ(Alive::count(), before + 1);
    run_one_turn(*loop);
    EXPECT_EQ(value, 7);
    EXPECT_EQ(Alive::count(), before);
}

TEST_F(FutureTest, a_dropped_pending_future_drops_its_callbacks) {
    long before = Alive::count();
    {
        Future<> future = loop->create_future();
        future.add_done_callback([alive = Alive()](Future<>) {});
        EXPECT_EQ(Alive::count(), before + 1);
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST_F(FutureTest, an_unseen_exception_is_reported_when_the_last_handle_goes) {
    Reports reports(*loop);
    {
        Future<int> future = loop->create_future<int>();
        Future<int> copy = future;
        future.set_exception(ValueError("nobody looks"));
        future = Future<int>();
        EXPECT_TRUE(reports.empty());
    }
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message, "Future exception was never retrieved");
    EXPECT_EQ(reports[0].error, "ValueError: nobody looks");
    EXPECT_TRUE(reports[0].has_future);
    EXPECT_FALSE(reports[0].has_task);
}

TEST_F(FutureTest, looking_at_the_exception_silences_the_report) {
    Reports reports(*loop);
    {
        Future<int> by_result = loop->create_future<int>();
        by_result.set_exception(ValueError("seen"));
        EXPECT_EQ(thrown_by([&] { return by_result.result(); }), "ValueError: seen");
        Future<int> by_exception = loop->create_future<int>();
        by_exception.set_exception(ValueError("seen"));
        EXPECT_NE(by_exception.exception(), nullptr);
        Future<int> by_cancel = loop->create_future<int>();
        by_cancel.set_exception(ValueError("seen"));
        EXPECT_FALSE(by_cancel.cancel());
    }
    EXPECT_EQ(reports.texts(), Log());
}

TEST_F(FutureTest, a_handler_may_keep_the_reported_future) {
    Future<> kept;
    loop->set_exception_handler(
        [&](EventLoop&, const ExceptionContext& context) { kept = *context.future(); });
    {
        Future<int> future = loop->create_future<int>();
        future.set_exception(ValueError("kept"));
    }
    ASSERT_TRUE(static_cast<bool>(kept));
    EXPECT_EQ(error_text(kept.exception()), "ValueError: kept");
    kept = Future<>();
}

TEST_F(FutureTest, every_awaiter_gets_the_value_and_they_resume_in_order) {
    Log log;
    Future<std::string> future = loop->create_future<std::string>();
    auto waiter = [](Future<std::string> f, std::string name, Log& out) -> Coro<> {
        std::string value = co_await f;
        out.push_back(name + "=" + value);
    };
    auto main = [&]() -> Coro<> {
        Task<> a = create_task(waiter(future, "a", log));
        Task<> b = create_task(waiter(future, "b", log));
        co_await sleep(0s);
        future.set_result("v");
        co_await gather(a, b);
        co_await waiter(future, "later", log);
    };
    loop->run_until_complete(main());
    EXPECT_EQ(log, (Log{"a=v", "b=v", "later=v"}));
}

TEST_F(FutureTest, every_awaiter_gets_the_same_exception_object) {
    std::vector<std::exception_ptr> seen;
    Future<int> future = loop->create_future<int>();
    auto error = std::make_exception_ptr(ValueError("shared"));
    auto waiter = [](Future<int> f, std::vector<std::exception_ptr>& out) -> Coro<> {
        auto outcome = co_await try_await(f);
        out.push_back(outcome.exception());
    };
    auto main = [&]() -> Coro<> {
        Task<> a = create_task(waiter(future, seen));
        Task<> b = create_task(waiter(future, seen));
        co_await sleep(0s);
        future.set_exception(error);
        co_await gather(a, b);
    };
    loop->run_until_complete(main());
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_EQ(seen[0], error);
    EXPECT_EQ(seen[1], error);
}

TEST_F(FutureTest, awaiting_a_finished_one_does_not_suspend) {
    bool other_ran = false;
    Future<int> future = loop->create_future<int>();
    future.set_result(3);
    auto main = [&]() -> Coro<int> {
        get_running_loop().call_soon([&] { other_ran = true; });
        int value = co_await future;
        EXPECT_FALSE(other_ran);
        co_return value;
    };
    EXPECT_EQ(loop->run_until_complete(main()), 3);
}

TEST_F(FutureTest, awaiting_an_rvalue_moves_the_result_out) {
    Future<MoveOnly> future = loop->create_future<MoveOnly>();
    auto main = [&]() -> Coro<int> {
        future.set_result(MoveOnly(4));
        Future<MoveOnly> other = future;
        MoveOnly value = co_await std::move(other);
        co_return value.value;
    };
    EXPECT_EQ(loop->run_until_complete(main()), 4);
    EXPECT_EQ(future.result().value, -1);
}

TEST_F(FutureTest, a_reference_result_refers_to_the_object) {
    int object = 1;
    Future<int&> future = loop->create_future<int&>();
    future.set_result(object);
    auto main = [&]() -> Coro<> {
        int& seen = co_await future;
        seen = 9;
    };
    loop->run_until_complete(main());
    EXPECT_EQ(object, 9);
    EXPECT_EQ(&future.result(), &object);
}

TEST_F(FutureTest, cancelling_one_awaiter_cancels_the_future_and_the_others) {
    Log log;
    Future<> future = loop->create_future();
    auto waiter = [](Future<> f, std::string name, Log& out) -> Coro<> {
        auto outcome = co_await try_await(f);
        out.push_back(name + (outcome.cancelled() ? " cancelled" : " ?"));
    };
    auto main = [&]() -> Coro<> {
        Task<> a = create_task(waiter(future, "a", log));
        Task<> b = create_task(waiter(future, "b", log));
        co_await sleep(0s);
        a.cancel();
        EXPECT_TRUE(future.cancelled());
        co_await gather(a, b);
        EXPECT_EQ(b.cancelling(), 0);
    };
    loop->run_until_complete(main());
    EXPECT_EQ(log, (Log{"a cancelled", "b cancelled"}));
}

TEST_F(FutureTest, an_awaiter_that_is_cancelled_in_the_turn_of_the_failure_has_seen_the_exception) {
    Reports reports(*loop);
    auto waiter = [](Future<> f) -> Coro<> { co_await f; };
    auto main = [&]() -> Coro<> {
        Future<> future = get_running_loop().create_future();
        Task<> task = create_task(waiter(future));
        co_await sleep(0s);
        future.set_exception(ValueError("dropped"));
        task.cancel();
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError");
    };
    loop->run_until_complete(main());
    EXPECT_EQ(reports.texts(), Log());
}

TEST_F(FutureTest, the_view_without_a_type_is_the_same_future) {
    Future<int> future = loop->create_future<int>();
    Future<> view = future;
    EXPECT_TRUE(view == future);
    EXPECT_FALSE(view.done());
    EXPECT_EQ(thrown_by([&] { view.set_result(); }).substr(0, 17), "InvalidStateError");
    future.set_result(1);
    EXPECT_TRUE(view.done());
    view.result();
}

TEST_F(FutureTest, ensure_future_gives_futures_and_tasks_back_and_makes_tasks_of_coroutines) {
    auto coro = []() -> Coro<int> { co_return 6; };
    auto main = [&]() -> Coro<> {
        Future<int> future = get_running_loop().create_future<int>();
        EXPECT_TRUE(ensure_future(future) == future);
        Task<int> task = create_task(coro());
        EXPECT_TRUE(ensure_future(task) == task);
        Task<int> made = ensure_future(coro());
        int value = co_await made;
        EXPECT_EQ(value, 6);
        EXPECT_TRUE(isfuture(task));
        EXPECT_FALSE(isfuture(3));
        EXPECT_FALSE(iscoroutine(task));
        Coro<int> unused = coro();
        EXPECT_TRUE(iscoroutine(unused));
    };
    loop->run_until_complete(main());
}

TEST_F(FutureTest, a_done_callback_runs_in_the_context_of_its_registration_or_the_given_one) {
    static ContextVar<int> var("var", 0);
    std::vector<int> seen;
    Future<> future = loop->create_future();
    Context given;
    given.run([&] { var.set(2); });
    Context registering;
    registering.run([&] {
        var.set(1);
        future.add_done_callback([&](Future<>) { seen.push_back(var.get()); });
        var.set(5);
        future.add_done_callback(in_context(given), [&](Future<>) {
            seen.push_back(var.get());
            var.set(3);
        });
    });
    future.set_result();
    run_one_turn(*loop);
    EXPECT_EQ(seen, (std::vector<int>{1, 2}));
    EXPECT_EQ(given[var], 3);
}

TEST(Future, outlives_its_loop) {
    Future<int> future;
    {
        VirtualLoop loop;
        future = loop->create_future<int>();
    }
    EXPECT_FALSE(future.done());
    EXPECT_EQ(thrown_by([&] { return &future.get_loop(); }).substr(0, 12), "RuntimeError");
    EXPECT_TRUE(future.cancel());
}

TEST(Future, an_unseen_exception_without_a_loop_goes_to_the_log) {
    LogRecorder log;
    {
        Future<int> future;
        {
            VirtualLoop loop;
            future = loop->create_future<int>();
        }
        future.set_exception(ValueError("homeless"));
    }
    EXPECT_EQ(log.count("Future exception was never retrieved"), 1u) << log.str();
    EXPECT_EQ(log.count("homeless"), 1u);
}

TEST(Future, callbacks_queued_when_the_loop_closes_are_dropped_with_all_they_hold) {
    long before = Alive::count();
    {
        VirtualLoop loop;
        Future<> future = loop->create_future();
        future.add_done_callback([alive = Alive()](Future<>) { ADD_FAILURE() << "the loop is closed"; });
        future.set_result();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Future, ending_one_with_callbacks_on_a_closed_loop_is_an_error) {
    VirtualLoop loop;
    Future<> future = loop->create_future();
    future.add_done_callback([](Future<>) {});
    loop->close();
    EXPECT_EQ(thrown_by([&] { future.set_result(); }), "RuntimeError: Event loop is closed");
    Future<> without = loop->create_future();
    without.set_result();
    EXPECT_EQ(thrown_by([&] { without.add_done_callback([](Future<>) {}); }),
              "RuntimeError: Event loop is closed");
}
