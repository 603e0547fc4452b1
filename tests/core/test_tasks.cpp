#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <source_location>
#include <sstream>
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
Coro<> nothing() { co_return; }
Coro<> forever() {
    Event never;
    co_await never.wait();
}

}  // namespace

// ---- creation

TEST(Task, starts_in_the_next_turn_in_order_of_creation) {
    Log log;
    auto child = [](std::string name, Log& out) -> Coro<> {
        out.push_back(name);
        co_return;
    };
    auto main = [&]() -> Coro<> {
        Task<> a = create_task(child("a", log));
        Task<> b = create_task(child("b", log));
        log.push_back("main");
        co_await sleep(0s);
        EXPECT_TRUE(a.done());
        EXPECT_TRUE(b.done());
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"main", "a", "b"}));
}

TEST(Task, gives_its_result_any_number_of_times) {
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(give(4));
        int first = co_await task;
        int second = co_await task;
        EXPECT_EQ(first, 4);
        EXPECT_EQ(second, 4);
        EXPECT_EQ(task.result(), 4);
        EXPECT_EQ(task.exception(), nullptr);
        EXPECT_FALSE(task.cancel());
    };
    run_virtual(main());
}

TEST(Task, gives_a_move_only_result_to_who_moves_it) {
    auto child = []() -> Coro<MoveOnly> { co_return MoveOnly(8); };
    auto main = [&]() -> Coro<int> {
        Task<MoveOnly> task = create_task(child());
        MoveOnly value = co_await std::move(task);
        co_return value.value;
    };
    EXPECT_EQ(run_virtual(main()), 8);
}

TEST(Task, gives_a_reference) {
    int object = 1;
    auto child = [&]() -> Coro<int&> { co_return object; };
    auto main = [&]() -> Coro<> {
        Task<int&> task = create_task(child());
        int& seen = co_await task;
        EXPECT_EQ(&seen, &object);
        EXPECT_EQ(&task.result(), &object);
    };
    run_virtual(main());
}

TEST(Task, throws_its_exception_at_every_await) {
    auto child = []() -> Coro<> {
        co_await sleep(0s);
        throw ValueError("broken");
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        std::string first = co_await thrown_by_await(task);
        std::string second = co_await thrown_by_await(task);
        EXPECT_EQ(first, "ValueError: broken");
        EXPECT_EQ(second, "ValueError: broken");
        EXPECT_EQ(error_text(task.exception()), "ValueError: broken");
        EXPECT_FALSE(task.cancelled());
    };
    run_virtual(main());
}

TEST(Task, lives_until_it_is_done_whatever_handles_exist) {
    bool finished = false;
    auto child = [&]() -> Coro<> {
        co_await sleep(1h);
        finished = true;
    };
    auto main = [&]() -> Coro<> {
        {
            Task<> dropped = create_task(child());
        }
        co_await sleep(2h);
    };
    run_virtual(main());
    EXPECT_TRUE(finished);
}

TEST(Task, has_a_number_for_a_name_that_counts_over_all_loops) {
    auto number = [](const std::string& name) {
        EXPECT_EQ(name.substr(0, 5), "Task-");
        return std::stoi(name.substr(5));
    };
    auto main = [&]() -> Coro<int> {
        Task<> a = create_task(nothing());
        Task<> b = create_task(nothing());
        EXPECT_EQ(number(b.get_name()), number(a.get_name()) + 1);
        co_return number(b.get_name());
    };
    int first = run_virtual(main());
    int second = run_virtual(main());
    EXPECT_GT(second, first + 2);  // main itself, and its two; run() has tasks of its own
}

TEST(Task, has_the_name_it_was_given) {
    auto main = [&]() -> Coro<> {
        std::string temporary = "fetch";
        Task<> task = create_task(nothing(), {.name = temporary});
        temporary = "other";
        EXPECT_EQ(task.get_name(), "fetch");
        task.set_name("renamed");
        EXPECT_EQ(task.get_name(), "renamed");
        co_await task;
        EXPECT_EQ(task.get_name(), "renamed");
    };
    run_virtual(main());
}

TEST(Task, the_current_one_is_known_inside_and_nobody_in_a_callback) {
    auto child = []() -> Coro<std::string> {
        co_await sleep(0s);
        co_return current_task().get_name();
    };
    auto main = [&]() -> Coro<> {
        Task<> self = current_task();
        bool in_callback = true;
        get_running_loop().call_soon([&] { in_callback = static_cast<bool>(current_task()); });
        Task<std::string> task = create_task(child(), {.name = "child"});
        std::string name = co_await task;
        EXPECT_EQ(name, "child");
        EXPECT_FALSE(in_callback);
        EXPECT_TRUE(current_task() == self);
    };
    run_virtual(main());
    EXPECT_EQ(thrown_by([] { return current_task(); }), "RuntimeError: no running event loop");
    EXPECT_EQ(thrown_by([] { return all_tasks(); }), "RuntimeError: no running event loop");
}

TEST(Task, all_tasks_are_those_not_done_in_order_of_creation) {
    auto main = [&]() -> Coro<> {
        Task<> quick = create_task(nothing(), {.name = "quick"});
        Task<> slow = create_task(forever(), {.name = "slow"});
        co_await sleep(0s);
        slow.cancel();
        Log names;
        for (const Task<>& task : all_tasks()) names.push_back(task.get_name());
        EXPECT_EQ(names.size(), 2u);
        EXPECT_EQ(names.back(), "slow");
        EXPECT_TRUE(all_tasks().front() == current_task());
        co_await try_await(slow);
        EXPECT_EQ(all_tasks().size(), 1u);
    };
    run_virtual(main());
}

TEST(Task, a_loop_may_be_given_tasks_before_it_runs) {
    VirtualLoop loop;
    Task<int> task = loop->create_task(give(5));
    EXPECT_EQ(all_tasks(*loop).size(), 1u);
    EXPECT_FALSE(static_cast<bool>(current_task(*loop)));
    EXPECT_EQ(loop->run_until_complete(task), 5);
    EXPECT_EQ(all_tasks(*loop).size(), 0u);
}

TEST(Task, cannot_be_given_a_result_from_outside) {
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(give(1));
        EXPECT_EQ(thrown_by([&] { task.set_result(2); }).substr(0, 53),
                  "RuntimeError: Task does not support set_result operat");
        EXPECT_EQ(thrown_by([&] { task.set_exception(ValueError("x")); }).substr(0, 56),
                  "RuntimeError: Task does not support set_exception operat");
        int value = co_await task;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
}

TEST(Task, done_callbacks_get_the_task) {
    std::string name;
    int value = 0;
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(give(3), {.name = "t"});
        task.add_done_callback([&](Task<int> done) {
            name = done.get_name();
            value = done.result();
        });
        DoneCallback removed = task.add_done_callback([&](Task<int>) { ADD_FAILURE() << "was removed"; });
        EXPECT_EQ(task.remove_done_callback(removed), 1u);
        co_await task;
        co_await sleep(0s);
    };
    run_virtual(main());
    EXPECT_EQ(name, "t");
    EXPECT_EQ(value, 3);
}

// ---- turns between cause and effect: asyncio-surface 2.3

TEST(Task, awaits_cost_as_many_turns_as_in_asyncio) {
    // The ticker counts turns; what each wait costs is what CPython 3.14 shows.
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        int turn = 0;
        bool ticking = true;
        std::function<void()> tick = [&] {
            ++turn;
            if (ticking) loop.call_soon([&] { tick(); });
        };
        loop.call_soon([&] { tick(); });
        co_await sleep(0s);
        auto yielding = []() -> Coro<> { co_await sleep(0s); };

        int start = turn;
        co_await nothing();
        EXPECT_EQ(turn - start, 0) << "a coroutine that does not suspend";
        start = turn;
        co_await sleep(0s);
        EXPECT_EQ(turn - start, 1) << "sleep(0)";
        start = turn;
        Future<> future = loop.create_future();
        loop.call_soon([&] { future.set_result(); });
        co_await future;
        EXPECT_EQ(turn - start, 2) << "a future completed by a callback";
        start = turn;
        Task<> task = create_task(nothing());
        co_await task;
        EXPECT_EQ(turn - start, 2) << "a task that does not suspend";
        start = turn;
        task = create_task(yielding());
        co_await task;
        EXPECT_EQ(turn - start, 3) << "a task with one sleep(0)";
        start = turn;
        co_await gather(nothing());
        EXPECT_EQ(turn - start, 3) << "gather of one";
        start = turn;
        co_await gather(nothing(), nothing(), nothing());
        EXPECT_EQ(turn - start, 3) << "gather of three";
        start = turn;
        std::vector<Task<>> tasks{create_task(nothing())};
        co_await wait(tasks);
        EXPECT_EQ(turn - start, 3) << "wait";
        start = turn;
        co_await shield(create_task(nothing()));
        EXPECT_EQ(turn - start, 3) << "shield";
        start = turn;
        auto body = [](TaskGroup& group) -> Coro<> {
            group.create_task(nothing());
            co_return;
        };
        co_await async_with(TaskGroup(), body);
        EXPECT_EQ(turn - start, 3) << "TaskGroup";
        start = turn;
        Event event;
        loop.call_soon([&] { event.set(); });
        co_await event.wait();
        EXPECT_EQ(turn - start, 2) << "Event set by a callback";
        start = turn;
        Queue<int> queue;
        loop.call_soon([&] { queue.put_nowait(1); });
        co_await queue.get();
        EXPECT_EQ(turn - start, 2) << "Queue fed by a callback";
        start = turn;
        Lock lock;
        Semaphore semaphore;
        co_await lock.acquire();
        co_await semaphore.acquire();
        queue.put_nowait(1);
        co_await queue.get();
        co_await event.wait();
        EXPECT_EQ(turn - start, 0) << "uncontended primitives";
        ticking = false;
        co_await sleep(0s);
    };
    run_virtual(main());
}

// ---- cancelling

TEST(Task, cancelled_before_its_first_step_never_runs) {
    long before = Alive::count();
    bool ran = false;
    auto child = [&](Alive) -> Coro<> {
        ran = true;
        co_return;
    };
    auto main = [&]() -> Coro<> {
        Alive alive;
        Task<> task = create_task(child(alive));
        EXPECT_TRUE(task.cancel("early"));
        EXPECT_FALSE(task.done());
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: early");
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
    EXPECT_FALSE(ran);
    EXPECT_EQ(Alive::count(), before);
}

TEST(Task, is_cancelled_at_its_await_in_a_later_turn) {
    Log log;
    auto child = [&]() -> Coro<> {
        try {
            co_await sleep(1h);
        } catch (const CancelledError& e) {
            log.push_back("cancelled " + std::string(e.message()));
            throw;
        }
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        co_await sleep(1s);
        EXPECT_TRUE(task.cancel("stop"));
        EXPECT_EQ(log, Log());
        EXPECT_EQ(task.cancelling(), 1);
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: stop");
        EXPECT_TRUE(task.cancelled());
        EXPECT_FALSE(task.cancel());
        EXPECT_EQ(task.cancelling(), 1);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"cancelled stop"}));
}

TEST(Task, twice_cancelled_before_delivery_throws_once) {
    int thrown = 0;
    auto child = [&]() -> Coro<> {
        for (int i = 0; i < 3; ++i) {
            try {
                co_await sleep(1h);
            } catch (const CancelledError&) {
                ++thrown;
            }
        }
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        co_await sleep(1s);
        task.cancel();
        task.cancel();
        EXPECT_EQ(task.cancelling(), 2);
        co_await task;
        EXPECT_EQ(task.cancelling(), 2);
        EXPECT_FALSE(task.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(thrown, 1);
}

TEST(Task, that_swallows_the_cancellation_goes_on) {
    auto child = []() -> Coro<int> {
        auto outcome = co_await try_await(sleep(1h));
        EXPECT_TRUE(outcome.cancelled());
        EXPECT_EQ(current_task().cancelling(), 1);
        co_await sleep(1s);
        co_return 3;
    };
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(child());
        co_await sleep(1s);
        task.cancel();
        int value = co_await task;
        EXPECT_EQ(value, 3);
        EXPECT_FALSE(task.cancelled());
    };
    run_virtual(main());
}

TEST(Task, that_cancels_itself_is_stopped_at_its_next_suspension) {
    Log log;
    auto child = [&]() -> Coro<> {
        current_task().cancel("self");
        co_await nothing();
        log.push_back("no suspension yet");
        co_await sleep(0s);
        log.push_back("not reached");
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: self");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"no suspension yet"}));
}

TEST(Task, that_cancels_itself_and_never_suspends_again_is_cancelled_without_a_result) {
    auto child = []() -> Coro<int> {
        current_task().cancel("self");
        co_return 5;
    };
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(child());
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: self");
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
}

TEST(Task, that_throws_CancelledError_by_hand_is_cancelled_without_a_request) {
    auto child = []() -> Coro<> {
        co_await sleep(0s);
        throw CancelledError("by hand");
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: by hand");
        EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(task.cancelling(), 0);
        EXPECT_EQ(current_task().cancelling(), 0);
    };
    run_virtual(main());
}

TEST(Task, that_replaces_the_cancellation_ends_with_the_replacement) {
    auto child = []() -> Coro<> {
        try {
            co_await sleep(1h);
        } catch (const CancelledError&) {
            throw ValueError("instead");
        }
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        co_await sleep(0s);
        task.cancel();
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "ValueError: instead");
        EXPECT_FALSE(task.cancelled());
    };
    run_virtual(main());
}

TEST(Task, cancelled_between_completion_and_resumption_drops_the_value) {
    auto main = [&]() -> Coro<> {
        Future<int> future = get_running_loop().create_future<int>();
        auto child = [](Future<int> f) -> Coro<int> { co_return co_await f; };
        Task<int> task = create_task(child(future));
        co_await sleep(0s);
        future.set_result(1);
        task.cancel("late");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: late");
        EXPECT_EQ(future.result(), 1);
    };
    run_virtual(main());
}

TEST(Task, cancelling_goes_to_the_innermost_task_and_each_level_counts_one) {
    Log log;
    auto inner = [&]() -> Coro<> {
        auto outcome = co_await try_await(sleep(1h));
        log.push_back("inner " + error_text(outcome.exception()));
        outcome.value();
    };
    Task<> inner_task;
    auto middle = [&]() -> Coro<> {
        inner_task = create_task(inner());
        auto outcome = co_await try_await(inner_task);
        log.push_back("middle " + error_text(outcome.exception()));
        outcome.value();
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(middle());
        co_await sleep(1s);
        task.cancel("deep");
        EXPECT_EQ(inner_task.cancelling(), 1);
        EXPECT_EQ(task.cancelling(), 1);
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: deep");
        EXPECT_TRUE(inner_task.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"inner CancelledError: deep", "middle CancelledError: deep"}));
    inner_task = Task<>();
}

TEST(Task, an_awaiter_of_a_cancelled_task_sees_the_cancellation_without_being_cancelled) {
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(forever());
        co_await sleep(0s);
        task.cancel();
        auto outcome = co_await try_await(task);
        EXPECT_TRUE(outcome.cancelled());
        EXPECT_EQ(current_task().cancelling(), 0);
        co_await sleep(1s);
    };
    run_virtual(main());
}

TEST(Task, uncancel_takes_requests_back_and_stops_at_zero) {
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(forever());
        co_await sleep(0s);
        EXPECT_EQ(task.uncancel(), 0);
        task.cancel();
        task.cancel();
        EXPECT_EQ(task.uncancel(), 1);
        EXPECT_EQ(task.uncancel(), 0);
        EXPECT_EQ(task.uncancel(), 0);
        co_await try_await(task);
    };
    run_virtual(main());
}

TEST(Task, uncancel_to_zero_withdraws_what_was_not_delivered) {
    auto child = []() -> Coro<int> {
        current_task().cancel();
        EXPECT_EQ(current_task().uncancel(), 0);
        co_await sleep(0s);
        co_return 1;
    };
    auto main = [&]() -> Coro<> {
        Task<int> task = create_task(child());
        int value = co_await task;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
}

TEST(Task, a_second_cancellation_reaches_the_cleanup) {
    Log log;
    auto child = [&]() -> Coro<> {
        auto first = co_await try_await(sleep(1h));
        log.push_back(error_text(first.exception()));
        auto second = co_await try_await(sleep(1h));
        log.push_back(error_text(second.exception()));
        first.value();
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        co_await sleep(1s);
        task.cancel("one");
        co_await sleep(1s);
        task.cancel("two");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: one");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"CancelledError: one", "CancelledError: two"}));
}

// ---- eager start and factories

TEST(Task, eager_start_runs_to_the_first_suspension_inside_create_task) {
    Log log;
    auto child = [&]() -> Coro<int> {
        log.push_back("child in " + current_task().get_name());
        co_await sleep(0s);
        log.push_back("child again");
        co_return 1;
    };
    auto main = [&]() -> Coro<> {
        std::string self = current_task().get_name();
        Task<int> task = create_task(child(), {.name = "eager", .eager_start = true});
        log.push_back("main");
        EXPECT_EQ(current_task().get_name(), self);
        EXPECT_FALSE(task.done());
        int value = co_await task;
        EXPECT_EQ(value, 1);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"child in eager", "main", "child again"}));
}

TEST(Task, eager_start_may_finish_at_once_with_any_outcome) {
    auto failing = []() -> Coro<> {
        throw ValueError("at once");
        co_return;
    };
    auto cancelling = []() -> Coro<> {
        throw CancelledError("at once");
        co_return;
    };
    auto main = [&]() -> Coro<> {
        Task<int> good = create_task(give(2), {.eager_start = true});
        EXPECT_TRUE(good.done());
        EXPECT_EQ(good.result(), 2);
        Task<> bad = create_task(failing(), {.eager_start = true});
        EXPECT_TRUE(bad.done());
        EXPECT_EQ(error_text(bad.exception()), "ValueError: at once");
        Task<> gone = create_task(cancelling(), {.eager_start = true});
        EXPECT_TRUE(gone.cancelled());
        EXPECT_EQ(all_tasks().size(), 1u);
        co_return;
    };
    run_virtual(main());
}

TEST(Task, eager_start_is_ignored_while_the_loop_does_not_run) {
    VirtualLoop loop;
    Task<int> task = loop->create_task(give(2), {.eager_start = true});
    EXPECT_FALSE(task.done());
    EXPECT_EQ(loop->run_until_complete(task), 2);
}

TEST(Task, eager_tasks_nest) {
    Log log;
    std::function<Coro<>(int)> nested = [&](int depth) -> Coro<> {
        log.push_back("in " + std::to_string(depth));
        if (depth > 0) {
            Task<> child = create_task(nested(depth - 1), {.eager_start = true});
            EXPECT_FALSE(child == current_task());
            co_await child;
        } else {
            co_await sleep(0s);
        }
        log.push_back("out " + std::to_string(depth));
    };
    auto main = [&]() -> Coro<> { co_await nested(2); };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"in 2", "in 1", "in 0", "out 0", "out 1", "out 2"}));
}

TEST(Task, an_eager_task_runs_in_a_copy_of_the_creators_context) {
    static ContextVar<int> var("var", 0);
    auto child = []() -> Coro<int> {
        int seen = var.get();
        var.set(9);
        co_return seen;
    };
    auto main = [&]() -> Coro<> {
        var.set(4);
        Task<int> task = create_task(child(), {.eager_start = true});
        EXPECT_EQ(task.result(), 4);
        EXPECT_EQ(var.get(), 4);
        co_return;
    };
    run_virtual(main());
}

TEST(Task, every_creation_goes_through_the_factory) {
    Log made;
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_FALSE(static_cast<bool>(loop.get_task_factory()));
        loop.set_task_factory([&](EventLoop& on, AnyCoro coro, const TaskOptions& options) {
            made.push_back(std::string(options.name));
            return Task<>(std::move(coro), on, options);
        });
        EXPECT_TRUE(static_cast<bool>(loop.get_task_factory()));
        Task<int> typed = create_task(give(3), {.name = "one"});
        EXPECT_EQ(typed.get_name(), "one");
        int value = co_await typed;
        EXPECT_EQ(value, 3);
        co_await gather(give(1), nothing());
        auto body = [](TaskGroup& group) -> Coro<> {
            group.create_task(nothing(), {.name = "child"});
            co_return;
        };
        co_await async_with(TaskGroup(), body);
        co_await shield(nothing());
        loop.set_task_factory({});
        co_await create_task(nothing(), {.name = "not seen"});
    };
    run_virtual(main());
    EXPECT_EQ(made, (Log{"one", "", "", "child", ""}));
}

TEST(Task, the_eager_factory_begins_all_tasks_at_once_unless_told_otherwise) {
    int constructed = 0;  // run() makes tasks through the factory after main
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.set_task_factory(eager_task_factory);
        Task<int> eager = create_task(give(3));
        EXPECT_TRUE(eager.done());
        Task<int> lazy = create_task(give(4), {.eager_start = false});
        EXPECT_FALSE(lazy.done());
        int value = co_await lazy;
        EXPECT_EQ(value, 4);
        loop.set_task_factory(
            create_eager_task_factory([&](EventLoop& on, AnyCoro coro, const TaskOptions& options) {
                ++constructed;
                return Task<>(std::move(coro), on, options);
            }));
        Task<int> third = create_task(give(5));
        EXPECT_TRUE(third.done());
        EXPECT_EQ(constructed, 1);
    };
    run_virtual(main());
}

TEST(Task, a_factory_that_gives_no_task_is_a_type_error) {
    VirtualLoop loop;
    loop->set_task_factory([](EventLoop&, AnyCoro, const TaskOptions&) { return Task<>(); });
    EXPECT_EQ(thrown_by([&] { return loop->create_task(nothing()); }),
              "TypeError: the task factory gave no task");
}

TEST(Task, a_factory_that_throws_drops_the_coroutine) {
    long before = Alive::count();
    VirtualLoop loop;
    loop->set_task_factory([](EventLoop&, AnyCoro, const TaskOptions&) -> Task<> { throw ValueError("no"); });
    auto child = [](Alive) -> Coro<> { co_return; };
    EXPECT_EQ(thrown_by([&] { return loop->create_task(child(Alive())); }), "ValueError: no");
    EXPECT_EQ(Alive::count(), before);
}

// ---- contexts

TEST(Task, runs_in_a_copy_of_its_creators_context) {
    static ContextVar<int> var("var", 0);
    auto child = []() -> Coro<int> {
        int seen = var.get();
        var.set(seen + 1);
        co_await sleep(0s);
        co_return var.get();
    };
    auto main = [&]() -> Coro<> {
        var.set(10);
        Task<int> task = create_task(child());
        var.set(20);
        int value = co_await task;
        EXPECT_EQ(value, 11);
        EXPECT_EQ(var.get(), 20);
        int direct = co_await child();
        EXPECT_EQ(direct, 21);
        EXPECT_EQ(var.get(), 21) << "a coroutine that is awaited shares the context";
    };
    run_virtual(main());
}

TEST(Task, runs_in_the_context_it_is_given) {
    static ContextVar<int> var("var", 0);
    auto child = []() -> Coro<> {
        var.set(var.get() + 1);
        co_return;
    };
    auto main = [&]() -> Coro<> {
        Context context;
        context.run([] { var.set(5); });
        Task<> task = create_task(child(), {.context = &context});
        EXPECT_TRUE(task.get_context() == context);
        co_await task;
        EXPECT_EQ(context[var], 6);
        EXPECT_EQ(var.get(), 0);
    };
    run_virtual(main());
}

TEST(Task, get_context_shows_what_the_task_sets_later) {
    static ContextVar<int> var("var", 0);
    auto child = []() -> Coro<> {
        var.set(1);
        co_await sleep(1s);
        var.set(2);
        co_await sleep(1s);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(child());
        co_await sleep(500ms);
        Context context = task.get_context();
        EXPECT_EQ(context[var], 1);
        co_await task;
        EXPECT_EQ(context[var], 2);
        var.set(7);
        Context own = current_task().get_context();
        EXPECT_EQ(own[var], 7);
        var.set(8);
        EXPECT_EQ(own[var], 8);
    };
    run_virtual(main());
}

// ---- reports

TEST(Task, an_exception_that_nobody_retrieves_is_reported_in_its_context) {
    static ContextVar<int> var("var", 0);
    int seen = 0;
    Reports reports;
    auto child = []() -> Coro<> {
        var.set(3);
        throw ValueError("lost");
        co_return;
    };
    std::uint32_t line = 0;
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        reports.record(loop);
        auto recording = loop.get_exception_handler();
        loop.set_exception_handler([&, recording](EventLoop& on, const ExceptionContext& context) {
            seen = var.get();
            recording(on, context);
        });
        {
            line = std::source_location::current().line() + 1;
            Task<> task = create_task(child(), {.name = "lost one"});
            co_await sleep(0s);
            EXPECT_TRUE(task.done());
            EXPECT_TRUE(reports.empty());
        }
        EXPECT_EQ(reports.size(), 1u);
    };
    run_virtual(main());
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].message, "Task exception was never retrieved");
    EXPECT_EQ(reports[0].error, "ValueError: lost");
    EXPECT_TRUE(reports[0].has_task);
    EXPECT_NE(reports[0].details.at("task").find("lost one"), std::string::npos);
    EXPECT_TRUE(reports[0].details.at("task").ends_with("test_tasks.cpp:" + std::to_string(line) + ">"))
        << reports[0].details.at("task");
    EXPECT_EQ(seen, 3);
}

TEST(Task, a_detached_task_that_fails_is_reported_when_it_ends) {
    Reports reports;
    auto child = []() -> Coro<> {
        co_await sleep(1s);
        throw ValueError("detached");
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        {
            Task<> dropped = create_task(child());
        }
        co_await sleep(2s);
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), (Log{"Task exception was never retrieved: ValueError: detached"}));
}

TEST(Task, a_retrieved_exception_and_a_cancellation_are_not_reported) {
    Reports reports;
    auto child = []() -> Coro<> {
        throw ValueError("seen");
        co_return;
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        co_await try_await(create_task(child()));
        Task<> task = create_task(forever());
        co_await sleep(0s);
        task.cancel();
        task = Task<>();
        co_await sleep(0s);
        Task<> hidden = create_task(child());
        co_await sleep(0s);
        EXPECT_FALSE(hidden.cancel()) << "cancel() on a failed task hides its error";
    };
    run_virtual(main());
    EXPECT_EQ(reports.texts(), Log());
}

TEST(Task, destroyed_with_its_loop_while_pending_is_reported_and_leaks_nothing) {
    long before = Alive::count();
    Reports reports;
    auto deep = [](int depth, auto& self) -> Coro<> {
        Alive alive;
        if (depth == 0) {
            co_await forever();
        } else {
            co_await self(depth - 1, self);
        }
    };
    Task<> kept;
    {
        auto loop = coil::testing::virtual_loop();
        reports.record(*loop);
        kept = loop->create_task(deep(5, deep), {.name = "stuck"});
        {
            Task<> dropped = loop->create_task(deep(0, deep), {.name = "unbegun"});
        }
        run_one_turn(*loop);
        loop->close();
    }
    EXPECT_EQ(Alive::count(), before);
    ASSERT_EQ(reports.size(), 2u);
    EXPECT_EQ(reports[0].message, "Task was destroyed but it is pending!");
    EXPECT_NE(reports[0].details.at("task").find("stuck"), std::string::npos);
    EXPECT_TRUE(reports[0].has_task);
    EXPECT_FALSE(kept.done());
}

TEST(Task, locals_that_release_things_may_be_destroyed_with_the_loop) {
    // Each destroyed task hands its lock over to a waiter that will never run.
    long before = Alive::count();
    Reports reports;
    {
        std::vector<std::unique_ptr<Lock>> locks;
        for (int i = 0; i < 4; ++i) locks.push_back(std::make_unique<Lock>());
        auto holder = [](Lock& lock) -> Coro<> {
            Alive alive;
            auto held = co_await lock.scoped();
            co_await forever();
        };
        auto loop = coil::testing::virtual_loop();
        reports.record(*loop);
        for (auto& lock : locks) {
            for (int i = 0; i < 3; ++i) loop->create_task(holder(*lock)).set_name("holder");
        }
        run_one_turn(*loop);
        run_one_turn(*loop);
        loop->close();
        loop.reset();
    }
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(reports.size(), 12u);
}

// ---- sleep

TEST(Sleep, takes_exactly_its_time_on_the_virtual_clock) {
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        TimePoint start = loop.time();
        co_await sleep(90min);
        EXPECT_EQ(loop.time() - start, Duration(90min));
        co_await sleep(0.25s);
        EXPECT_EQ(loop.time() - start, Duration(90min + 250ms));
        int value = co_await sleep(1s, 5);
        EXPECT_EQ(value, 5);
        std::string text = co_await sleep(0s, "text");
        EXPECT_EQ(text, "text");
        MoveOnly moved = co_await sleep(1s, MoveOnly(6));
        EXPECT_EQ(moved.value, 6);
    };
    run_virtual(main());
}

TEST(Sleep, of_zero_or_less_yields_once) {
    auto main = [&]() -> Coro<> {
        for (Duration delay : {Duration(0), Duration(-1), Duration(-5h), Duration::min()}) {
            bool ran = false;
            bool second = false;
            EventLoop& loop = get_running_loop();
            TimePoint start = loop.time();
            loop.call_soon([&] {
                ran = true;
                get_running_loop().call_soon([&] { second = true; });
            });
            co_await sleep(delay);
            EXPECT_TRUE(ran);
            EXPECT_FALSE(second);
            EXPECT_EQ(loop.time(), start);
            co_await sleep(0s);
        }
    };
    run_virtual(main());
}

TEST(Sleep, wakes_by_deadline_then_by_order_of_creation) {
    Log log;
    auto child = [&](Duration delay, std::string name) -> Coro<> {
        co_await sleep(delay);
        log.push_back(name);
    };
    auto main = [&]() -> Coro<> {
        co_await gather(child(3s, "c"), child(1s, "a1"), child(2s, "b"), child(1s, "a2"), child(1s, "a3"));
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"a1", "a2", "a3", "b", "c"}));
}

TEST(Sleep, refuses_not_a_number) {
    std::chrono::duration<double> nan(std::numeric_limits<double>::quiet_NaN());
    auto main = [&]() -> Coro<std::string> { co_return thrown_by([&] { return sleep(nan); }); };
    EXPECT_EQ(run_virtual(main()).substr(0, 10), "ValueError");
}

TEST(Sleep, of_a_huge_duration_can_be_cancelled) {
    auto main = [&]() -> Coro<> {
        std::chrono::duration<double> infinity(std::numeric_limits<double>::infinity());
        auto child = [](auto delay) -> Coro<> { co_await sleep(delay); };
        std::vector<Task<>> tasks;
        tasks.push_back(create_task(child(infinity)));
        tasks.push_back(create_task(child(Duration::max())));
        tasks.push_back(create_task(child(std::chrono::hours::max())));
        tasks.push_back(create_task(child(std::chrono::duration<double>(1e300))));
        co_await sleep(24h);
        for (Task<>& task : tasks) {
            EXPECT_FALSE(task.done());
            EXPECT_TRUE(task.cancel());
        }
        co_await wait(tasks);
        for (Task<>& task : tasks) EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
}

TEST(Sleep, that_is_never_awaited_does_nothing) {
    auto main = [&]() -> Coro<> {
        TimePoint start = get_running_loop().time();
        {
            auto unused = sleep(1h);
        }
        {
            Coro<> unused = sleep(1h);
        }
        Coro<> wrapped = sleep(1s);
        co_await std::move(wrapped);
        EXPECT_EQ(get_running_loop().time() - start, Duration(1s));
        Task<int> task = create_task(Coro<int>(sleep(1s, 4)));
        int value = co_await task;
        EXPECT_EQ(value, 4);
    };
    run_virtual(main());
}

TEST(Task, cancelling_one_of_a_circle_is_an_error_and_the_loop_can_be_closed) {
    Reports reports;
    long before = Alive::count();
    {
        VirtualLoop loop;
        reports.record(*loop);
        std::vector<Task<>> circle;
        auto await_next = [&](std::size_t i, const Alive&) -> Coro<> { co_await circle[(i + 1) % 3]; };
        for (std::size_t i = 0; i < 3; ++i) circle.push_back(loop->create_task(await_next(i, Alive())));
        run_one_turn(*loop);
        EXPECT_EQ(
            thrown_by([&] { circle[0].cancel(); }),
            "RuntimeError: cancel(): tasks wait for each other in a circle, or in a chain of thousands");
        for (Task<>& task : circle) EXPECT_FALSE(task.done());
    }
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(reports.size(), 3u);  // "Task was destroyed but it is pending!"
}

TEST(Task, a_cancellation_goes_down_a_chain_of_ten_thousand_tasks) {
    constexpr int LENGTH = 10'000;
    auto main = [&]() -> Coro<> {
        auto await_other = [](Task<> other) -> Coro<> { co_await other; };
        Task<> last = create_task(forever());
        for (int i = 0; i < LENGTH; ++i) last = create_task(await_other(last));
        co_await turns(2);
        EXPECT_TRUE(last.cancel());
        co_await wait(std::vector<Task<>>(1, last));
        EXPECT_TRUE(last.cancelled());
    };
    run_virtual(main());
}
