#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

template <class P>
Coro<> take(P& primitive, Log& log, std::string name) {
    co_await primitive.acquire();
    log.push_back(name);
}

}  // namespace

// ---- Lock

TEST(Lock, is_taken_and_released) {
    auto main = []() -> Coro<> {
        Lock lock;
        EXPECT_FALSE(lock.locked());
        bool taken = co_await lock.acquire();
        EXPECT_TRUE(taken);
        EXPECT_TRUE(lock.locked());
        lock.release();
        EXPECT_FALSE(lock.locked());
        {
            auto held = co_await lock.scoped();
            EXPECT_TRUE(lock.locked());
            auto moved = std::move(held);
            EXPECT_TRUE(lock.locked());
        }
        EXPECT_FALSE(lock.locked());
        auto held = co_await lock.scoped();
        held.release();
        EXPECT_FALSE(lock.locked());
        held.release();
    };
    run_virtual(main());
}

TEST(Lock, is_fair_and_newcomers_do_not_overtake) {
    Log log;
    auto main = [&]() -> Coro<> {
        Lock lock;
        co_await lock.acquire();
        Task<> a = create_task(take(lock, log, "a"));
        Task<> b = create_task(take(lock, log, "b"));
        co_await sleep(0s);
        lock.release();
        EXPECT_FALSE(lock.locked()) << "promised, not held";
        Task<> late = create_task(take(lock, log, "late"));
        co_await turns(3);
        EXPECT_EQ(log, (Log{"a"}));
        EXPECT_TRUE(lock.locked());
        lock.release();
        co_await turns(3);
        lock.release();
        co_await turns(3);
        EXPECT_EQ(log, (Log{"a", "b", "late"}));
        lock.release();
        co_await gather(a, b, late);
    };
    run_virtual(main());
}

TEST(Lock, a_cancelled_waiter_does_not_swallow_a_wake_up) {
    Log log;
    auto main = [&]() -> Coro<> {
        Lock lock;
        co_await lock.acquire();
        Task<> first = create_task(take(lock, log, "first"));
        Task<> second = create_task(take(lock, log, "second"));
        co_await sleep(0s);
        lock.release();
        first.cancel();
        co_await second;
        EXPECT_TRUE(first.cancelled());
        EXPECT_EQ(log, (Log{"second"}));
        lock.release();
    };
    run_virtual(main());
}

TEST(Lock, may_be_taken_at_once_if_all_waiters_are_cancelled) {
    Log log;
    auto main = [&]() -> Coro<> {
        Lock lock;
        co_await lock.acquire();
        Task<> waiter = create_task(take(lock, log, "waiter"));
        co_await sleep(0s);
        waiter.cancel();
        lock.release();
        bool ticked = false;
        get_running_loop().call_soon([&] { ticked = true; });
        co_await lock.acquire();
        EXPECT_FALSE(ticked);
        lock.release();
        co_await try_await(waiter);
    };
    run_virtual(main());
}

TEST(Lock, released_by_another_task_is_released) {
    auto main = []() -> Coro<> {
        Lock lock;
        co_await lock.acquire();
        auto releases = [](Lock& l) -> Coro<> {
            l.release();
            co_return;
        };
        co_await create_task(releases(lock));
        EXPECT_FALSE(lock.locked());
    };
    run_virtual(main());
}

TEST(Lock, keeps_a_thousand_tasks_out_of_one_another) {
    auto main = []() -> Coro<> {
        Lock lock;
        int inside = 0;
        int most = 0;
        int rounds = 0;
        auto worker = [&]() -> Coro<> {
            for (int i = 0; i < 3; ++i) {
                auto held = co_await lock.scoped();
                most = std::max(most, ++inside);
                co_await sleep(0s);
                --inside;
                ++rounds;
            }
        };
        std::vector<Coro<>> workers;
        for (int i = 0; i < 1000; ++i) workers.push_back(worker());
        co_await gather(std::move(workers));
        EXPECT_EQ(most, 1);
        EXPECT_EQ(rounds, 3000);
    };
    run_virtual(main());
}

// ---- Event

TEST(Event, wakes_all_who_wait_also_if_it_is_cleared_before_they_run) {
    Log log;
    auto main = [&]() -> Coro<> {
        Event event;
        auto waiter = [&](std::string name) -> Coro<> {
            bool set = co_await event.wait();
            log.push_back(name + (set ? " true" : " false"));
        };
        Task<> a = create_task(waiter("a"));
        Task<> b = create_task(waiter("b"));
        co_await sleep(0s);
        event.set();
        EXPECT_TRUE(event.is_set());
        event.clear();
        EXPECT_FALSE(event.is_set());
        co_await gather(a, b);
        Task<> c = create_task(waiter("c"));
        co_await sleep(1s);
        EXPECT_FALSE(c.done());
        event.set();
        event.set();
        co_await c;
        co_await waiter("d");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"a true", "b true", "c true", "d true"}));
}

// ---- Semaphore

TEST(Semaphore, counts_its_permits) {
    auto main = []() -> Coro<> {
        Semaphore semaphore(2);
        EXPECT_FALSE(semaphore.locked());
        co_await semaphore.acquire();
        co_await semaphore.acquire();
        EXPECT_TRUE(semaphore.locked());
        semaphore.release();
        EXPECT_FALSE(semaphore.locked());
        semaphore.release();
        semaphore.release();  // no upper bound
        for (int i = 0; i < 3; ++i) co_await semaphore.acquire();
        EXPECT_TRUE(semaphore.locked());
        Semaphore one;
        {
            auto permit = co_await one.scoped();
            EXPECT_TRUE(one.locked());
        }
        EXPECT_FALSE(one.locked());
        Semaphore none(0);
        EXPECT_TRUE(none.locked());
    };
    run_virtual(main());
}

TEST(Semaphore, is_fair_and_newcomers_do_not_overtake) {
    Log log;
    auto main = [&]() -> Coro<> {
        Semaphore semaphore(0);
        std::vector<Task<>> tasks;
        for (std::string name : {"a", "b", "c"}) tasks.push_back(create_task(take(semaphore, log, name)));
        co_await sleep(0s);
        semaphore.release();
        EXPECT_TRUE(semaphore.locked());
        tasks.push_back(create_task(take(semaphore, log, "late")));
        co_await turns(3);
        EXPECT_EQ(log, (Log{"a"}));
        semaphore.release();
        semaphore.release();
        co_await turns(3);
        EXPECT_EQ(log, (Log{"a", "b", "c"}));
        semaphore.release();
        co_await gather(tasks);
    };
    run_virtual(main());
}

TEST(Semaphore, wakes_as_many_as_there_are_permits) {
    Log log;
    auto main = [&]() -> Coro<> {
        Semaphore semaphore(0);
        std::vector<Task<>> tasks;
        for (std::string name : {"a", "b", "c"}) tasks.push_back(create_task(take(semaphore, log, name)));
        co_await sleep(0s);
        tasks[0].cancel();
        for (int i = 0; i < 2; ++i) semaphore.release();
        co_await turns(4);
        EXPECT_EQ(log, (Log{"b", "c"}));
        EXPECT_TRUE(tasks[0].cancelled());
    };
    run_virtual(main());
}

TEST(Semaphore, a_permit_given_to_a_cancelled_waiter_goes_to_the_next) {
    Log log;
    auto main = [&]() -> Coro<> {
        Semaphore semaphore(0);
        std::vector<Task<>> tasks;
        for (std::string name : {"a", "b", "c"}) tasks.push_back(create_task(take(semaphore, log, name)));
        co_await sleep(0s);
        semaphore.release();
        tasks[0].cancel();
        co_await turns(4);
        EXPECT_EQ(log, (Log{"b"}));
        semaphore.release();
        co_await turns(4);
        EXPECT_EQ(log, (Log{"b", "c"}));
        semaphore.release();
        EXPECT_FALSE(semaphore.locked());
        // Nobody waits: the permit of a cancelled waiter stays.
        co_await semaphore.acquire();
        Task<> last = create_task(take(semaphore, log, "last"));
        co_await sleep(0s);
        semaphore.release();
        last.cancel();
        co_await try_await(last);
        EXPECT_FALSE(semaphore.locked());
    };
    run_virtual(main());
}

TEST(Semaphore, limits_how_many_are_inside) {
    auto main = []() -> Coro<> {
        Semaphore semaphore(7);
        int inside = 0;
        int most = 0;
        auto worker = [&](int i) -> Coro<> {
            auto permit = co_await semaphore.scoped();
            most = std::max(most, ++inside);
            co_await sleep(std::chrono::milliseconds(1 + i % 10));
            --inside;
        };
        std::vector<Coro<>> workers;
        for (int i = 0; i < 1000; ++i) workers.push_back(worker(i));
        co_await gather(std::move(workers));
        EXPECT_EQ(most, 7);
        EXPECT_EQ(inside, 0);
    };
    run_virtual(main());
}

TEST(BoundedSemaphore, refuses_more_releases_than_acquisitions) {
    auto main = []() -> Coro<> {
        BoundedSemaphore semaphore(1);
        co_await semaphore.acquire();
        semaphore.release();
        EXPECT_EQ(thrown_by([&] { semaphore.release(); }),
                  "ValueError: BoundedSemaphore released too many times");
        EXPECT_FALSE(semaphore.locked());
        co_await semaphore.acquire();
        EXPECT_TRUE(semaphore.locked());
    };
    run_virtual(main());
}

// ---- Condition

namespace {

/// Waits to be notified, once; says how that ended, and holds the lock while it says so.
Coro<> notified(Condition& condition, Log& log, std::string name) {
    auto held = co_await condition.scoped();
    auto outcome = co_await try_await(condition.wait());
    log.push_back(name + " " +
                  (outcome.has_value() ? *outcome ? "true" : "false" : error_text(outcome.exception())) +
                  (condition.locked() ? "" : " without the lock"));
}
/// Takes the lock and notifies.
Coro<> notify(Condition& condition, std::size_t n) {
    auto held = co_await condition.scoped();
    condition.notify(n);
}
std::vector<Task<>> start_notified(Condition& condition, Log& log, std::vector<std::string> names) {
    std::vector<Task<>> tasks;
    for (std::string& name : names) tasks.push_back(create_task(notified(condition, log, std::move(name))));
    return tasks;
}

}  // namespace

TEST(Condition, notify_wakes_the_first_n_and_notify_all_the_others_in_order) {
    Log log;
    auto main = [&]() -> Coro<> {
        Condition condition;
        std::vector<Task<>> tasks = start_notified(condition, log, {"a", "b", "c", "d", "e", "f"});
        co_await turns(2);
        EXPECT_FALSE(condition.locked()) << "who waits has given the lock back";
        co_await notify(condition, 1);
        co_await turns(9);
        EXPECT_EQ(log, (Log{"a true"}));
        co_await notify(condition, 2);
        co_await turns(9);
        EXPECT_EQ(log, (Log{"a true", "b true", "c true"}));
        co_await notify(condition, 0);
        co_await turns(9);
        EXPECT_EQ(log.size(), 3u);
        {
            auto held = co_await condition.scoped();
            condition.notify_all();
            co_await turns(9);
            EXPECT_EQ(log.size(), 3u) << "they need the lock";
        }
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"a true", "b true", "c true", "d true", "e true", "f true"}));
        EXPECT_FALSE(condition.locked());
        co_await notify(condition, 5);
    };
    run_virtual(main());
}

TEST(Condition, two_notifications_wake_two) {
    Log log;
    auto main = [&]() -> Coro<> {
        Condition condition;
        std::vector<Task<>> tasks = start_notified(condition, log, {"a", "b", "c"});
        co_await turns(2);
        {
            auto held = co_await condition.scoped();
            condition.notify();
            condition.notify();
        }
        co_await turns(9);
        EXPECT_EQ(log, (Log{"a true", "b true"}));
        co_await notify(condition, 1);
        co_await gather(tasks);
    };
    run_virtual(main());
}

TEST(Condition, wait_for_gives_the_value_of_a_predicate_that_is_called_with_the_lock_held) {
    auto main = []() -> Coro<> {
        Condition condition;
        std::vector<int> box;
        int calls = 0;
        auto consumer = [&]() -> Coro<int> {
            auto held = co_await condition.scoped();
            auto predicate = [&]() -> std::optional<int> {
                ++calls;
                EXPECT_TRUE(condition.locked());
                if (box.empty()) return std::nullopt;
                return box.back();
            };
            std::optional<int> value = co_await condition.wait_for(predicate);
            co_return value.value();
        };
        Task<int> task = create_task(consumer());
        co_await turns(2);
        EXPECT_EQ(calls, 1);
        co_await notify(condition, 1);
        co_await turns(5);
        EXPECT_EQ(calls, 2);
        EXPECT_FALSE(task.done());
        box.push_back(7);
        co_await notify(condition, 1);
        int value = co_await task;
        EXPECT_EQ(value, 7);
        EXPECT_EQ(calls, 3);
        value = co_await consumer();
        EXPECT_EQ(value, 7) << "at once if it holds already";
        EXPECT_FALSE(condition.locked());
    };
    run_virtual(main());
}

TEST(Condition, what_a_predicate_throws_leaves_the_lock_held) {
    auto main = []() -> Coro<> {
        Condition condition;
        co_await condition.acquire();
        auto fails = []() -> bool { throw ValueError("predicate"); };
        std::string error = co_await thrown_by_await(condition.wait_for(fails));
        EXPECT_EQ(error, "ValueError: predicate");
        EXPECT_TRUE(condition.locked());
        condition.release();
    };
    run_virtual(main());
}

TEST(Condition, nobody_waits_or_notifies_without_the_lock) {
    auto main = []() -> Coro<> {
        Condition condition;
        std::string error = co_await thrown_by_await(condition.wait());
        EXPECT_EQ(error, "RuntimeError: cannot wait on un-acquired lock");
        EXPECT_EQ(thrown_by([&] { condition.notify(); }), "RuntimeError: cannot notify on un-acquired lock");
        EXPECT_EQ(thrown_by([&] { condition.notify_all(); }),
                  "RuntimeError: cannot notify on un-acquired lock");
        EXPECT_EQ(thrown_by([&] { condition.release(); }), "RuntimeError: Lock is not acquired.");
    };
    run_virtual(main());
}

TEST(Condition, shares_a_lock_with_another_one) {
    Log log;
    auto main = [&]() -> Coro<> {
        Lock lock;
        Condition full(lock);
        Condition empty(lock);
        std::vector<Task<>> tasks = start_notified(full, log, {"full"});
        tasks.push_back(create_task(notified(empty, log, "empty")));
        co_await turns(2);
        {
            auto held = co_await lock.scoped();
            EXPECT_TRUE(full.locked());
            EXPECT_TRUE(empty.locked());
            empty.notify_all();
        }
        co_await turns(9);
        EXPECT_EQ(log, (Log{"empty true"}));
        co_await notify(full, 1);
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"empty true", "full true"}));
        EXPECT_FALSE(lock.locked());
    };
    run_virtual(main());
}

TEST(Condition, is_a_context_manager) {
    auto main = []() -> Coro<> {
        Condition condition;
        auto body = [&]() -> Coro<> {
            EXPECT_TRUE(condition.locked());
            condition.notify();
            co_return;
        };
        co_await async_with(condition, body);
        EXPECT_FALSE(condition.locked());
    };
    run_virtual(main());
}

TEST(Condition, cancelled_while_it_waits_takes_the_lock_again_before_it_throws) {
    Log log;
    auto main = [&]() -> Coro<> {
        Condition condition;
        std::vector<Task<>> tasks = start_notified(condition, log, {"a", "b"});
        co_await turns(2);
        tasks[0].cancel("now");
        co_await turns(9);
        EXPECT_EQ(log, (Log{"a CancelledError: now", "b true"})) << "a wake-up too many is allowed";
        EXPECT_FALSE(condition.locked());
        co_await gather(tasks);
    };
    run_virtual(main());
}

TEST(Condition, cancelled_while_it_takes_the_lock_again_throws_once_it_has_it) {
    for (bool twice : {false, true}) {
        Log log;
        auto main = [&]() -> Coro<> {
            Condition condition;
            Task<> task = start_notified(condition, log, {"a"}).front();
            co_await turns(2);
            {
                auto held = co_await condition.scoped();
                condition.notify();
                co_await turns(3);
                task.cancel("first");
                co_await turns(3);
                if (twice) task.cancel("second");
                co_await turns(3);
                EXPECT_EQ(log, Log()) << "the lock is not free";
            }
            co_await task;
            EXPECT_EQ(log, (Log{twice ? "a CancelledError: second" : "a CancelledError: first"}));
            EXPECT_FALSE(condition.locked());
            EXPECT_EQ(task.cancelling(), twice ? 2 : 1);
        };
        run_virtual(main());
    }
}

TEST(Condition, cancelled_while_it_waits_and_again_while_it_takes_the_lock_throws_the_latest) {
    Log log;
    auto main = [&]() -> Coro<> {
        Condition condition;
        Task<> task = start_notified(condition, log, {"a"}).front();
        co_await turns(2);
        {
            auto held = co_await condition.scoped();
            task.cancel("first");
            co_await turns(3);
            task.cancel("second");
            co_await turns(3);
            EXPECT_EQ(log, Log());
        }
        co_await task;
        EXPECT_EQ(log, (Log{"a CancelledError: second"}));
    };
    run_virtual(main());
}

TEST(Condition, a_notification_of_a_cancelled_waiter_goes_to_the_next) {
    // Between the notification and the cancellation: none, and so many turns that it waits for the lock.
    for (int distance : {0, 3}) {
        SCOPED_TRACE(distance);
        Log log;
        auto main = [&]() -> Coro<> {
            Condition condition;
            std::vector<Task<>> tasks = start_notified(condition, log, {"a", "b", "c"});
            co_await turns(2);
            {
                auto held = co_await condition.scoped();
                condition.notify();
                co_await turns(distance);
                tasks[0].cancel();
            }
            co_await turns(9);
            EXPECT_EQ(log, (Log{"a CancelledError", "b true"}));
            co_await notify(condition, 1);
            co_await gather(tasks);
        };
        run_virtual(main());
    }
}

TEST(Condition, of_another_loop_refuses_to_wait_and_keeps_the_lock) {
    Log log;
    VirtualLoop one;
    VirtualLoop other;
    Condition condition;
    auto first = [&]() -> Coro<> {
        Task<> task = start_notified(condition, log, {"a"}).front();
        co_await turns(2);
        co_await notify(condition, 1);
        co_await task;
    };
    one->run_until_complete(first());
    auto second = [&]() -> Coro<> {
        co_await condition.acquire();
        std::string error = co_await thrown_by_await(condition.wait());
        EXPECT_EQ(error, "RuntimeError: Condition is bound to a different event loop");
        EXPECT_TRUE(condition.locked());
        condition.release();
    };
    other->run_until_complete(second());
}

TEST(Condition, destroyed_before_its_waiter_goes_on_is_an_error_there) {
    auto main = []() -> Coro<> {
        Lock lock;
        auto condition = std::make_unique<Condition>(lock);
        auto waiter = [&]() -> Coro<> {
            co_await lock.acquire();
            co_await condition->wait();
        };
        Task<> notified_one = create_task(waiter());
        co_await sleep(0s);
        Task<> cancelled_one = create_task(waiter());
        co_await sleep(0s);
        co_await notify(*condition, 1);
        cancelled_one.cancel("late");
        condition.reset();
        std::string error = co_await thrown_by_await(notified_one);
        EXPECT_EQ(
            error,
            "RuntimeError: Condition.wait: the object was destroyed before the waiting task could go on");
        error = co_await thrown_by_await(cancelled_one);
        EXPECT_EQ(error, "CancelledError: late");
        EXPECT_FALSE(lock.locked());
    };
    run_virtual(main());
}

TEST(Condition, a_frame_that_waits_in_a_scope_may_be_destroyed_with_its_loop) {
    long before = Alive::count();
    LogRecorder log;
    {
        Condition condition;
        auto loop = coil::testing::virtual_loop();
        Reports reports(*loop);
        auto waits = [&]() -> Coro<> {
            Alive alive;
            auto held = co_await condition.scoped();
            co_await condition.wait();
        };
        // One waits to be notified, one for the lock again, which the third holds.
        auto holds = [&]() -> Coro<> {
            auto held = co_await condition.scoped();
            condition.notify();
            co_await sleep(1h);
        };
        {
            Task<> first = loop->create_task(waits());
            Task<> second = loop->create_task(waits());
            Task<> third = loop->create_task(holds());
        }
        for (int i = 0; i < 5; ++i) run_one_turn(*loop);
        EXPECT_TRUE(condition.locked());
        EXPECT_EQ(Alive::count(), before + 2);
        loop->close();
        loop.reset();
        EXPECT_EQ(reports.texts(), Log(3, "Task was destroyed but it is pending!: nothing"));
    }
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(log.lines().size(), 0u) << log.str();
}

TEST(Held, whose_lock_somebody_else_released_is_reported) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        Lock lock;
        {
            auto held = co_await lock.scoped();
            lock.release();
        }
        EXPECT_EQ(
            reports.texts(),
            (Log{"What a scope was to release was no longer held: RuntimeError: Lock is not acquired."}));
        BoundedSemaphore semaphore;
        {
            auto held = co_await semaphore.scoped();
            semaphore.release();
        }
        EXPECT_EQ(reports.size(), 2u);
        auto held = co_await lock.scoped();
        lock.release();
        EXPECT_EQ(thrown_by([&] { held.release(); }), "RuntimeError: Lock is not acquired.");
    };
    run_virtual(main());
    EXPECT_EQ(reports.size(), 2u);
}

// ---- Barrier

namespace {

Coro<> party(Barrier& barrier, Log& log, std::string name) {
    auto outcome = co_await try_await(barrier.wait());
    log.push_back(name + " " +
                  (outcome.has_value() ? std::to_string(*outcome) : error_text(outcome.exception())));
}
std::vector<Task<>> start_parties(Barrier& barrier, Log& log, std::vector<std::string> names) {
    std::vector<Task<>> tasks;
    for (std::string& name : names) tasks.push_back(create_task(party(barrier, log, std::move(name))));
    return tasks;
}
const std::string BROKEN = " BrokenBarrierError: Abort or reset of barrier";

}  // namespace

TEST(Barrier, lets_all_go_together_and_numbers_them) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(3);
        EXPECT_EQ(barrier.parties(), 3u);
        EXPECT_FALSE(barrier.broken());
        for (int round = 0; round < 3; ++round) {
            log.clear();
            std::vector<Task<>> tasks = start_parties(barrier, log, {"a", "b"});
            co_await sleep(1s);
            EXPECT_EQ(log, Log());
            EXPECT_EQ(barrier.n_waiting(), 2u);
            bool ticked = false;
            get_running_loop().call_soon([&] { ticked = true; });
            std::size_t index = co_await barrier.wait();
            EXPECT_EQ(index, 2u);
            EXPECT_FALSE(ticked) << "the last one goes on at once";
            EXPECT_EQ(barrier.n_waiting(), 0u);
            co_await gather(tasks);
            EXPECT_EQ(log, (Log{"a 0", "b 1"}));
        }
    };
    run_virtual(main());
}

TEST(Barrier, of_one_never_waits) {
    auto main = []() -> Coro<> {
        Barrier barrier(1);
        for (int i = 0; i < 3; ++i) {
            std::size_t index = co_await barrier.wait();
            EXPECT_EQ(index, 0u);
        }
        EXPECT_EQ(thrown_by([] { Barrier none(0); }), "ValueError: parties must be > 0");
        EXPECT_EQ(thrown_by([] { Barrier negative(-1); }), "ValueError: parties must be > 0");
    };
    run_virtual(main());
}

TEST(Barrier, who_comes_while_others_leave_waits_for_the_next_round) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(2);
        std::vector<Task<>> tasks = start_parties(barrier, log, {"a", "b", "c", "d", "e"});
        co_await sleep(1s);
        // CPython's order, and its numbers.
        EXPECT_EQ(log, (Log{"b 1", "a 0", "d 1", "c 0"}));
        EXPECT_EQ(barrier.n_waiting(), 1u);
        tasks.push_back(create_task(party(barrier, log, "f")));
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"b 1", "a 0", "d 1", "c 0", "f 1", "e 0"}));
    };
    run_virtual(main());
}

TEST(Barrier, a_cancelled_waiter_leaves_and_the_others_stay) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(3);
        std::vector<Task<>> tasks = start_parties(barrier, log, {"a", "b"});
        co_await sleep(1s);
        tasks[0].cancel("enough");
        co_await sleep(1s);
        EXPECT_EQ(log, (Log{"a CancelledError: enough"}));
        EXPECT_EQ(barrier.n_waiting(), 1u);
        EXPECT_FALSE(barrier.broken());
        tasks.push_back(create_task(party(barrier, log, "c")));
        co_await sleep(1s);
        EXPECT_EQ(log.size(), 1u) << "two are not three";
        tasks.push_back(create_task(party(barrier, log, "d")));
        co_await gather(tasks);
        EXPECT_EQ(log.size(), 4u);
        EXPECT_EQ(log[1], "d 2");
    };
    run_virtual(main());
}

TEST(Barrier, cancelled_while_it_leaves_the_others_leave_too) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(3);
        std::vector<Task<>> tasks = start_parties(barrier, log, {"a", "b"});
        co_await sleep(1s);
        co_await barrier.wait();
        tasks[0].cancel("late");
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"a CancelledError: late", "b 1"}));
        std::vector<Task<>> next = start_parties(barrier, log, {"c", "d", "e"});
        co_await gather(next);
        EXPECT_EQ(log.size(), 5u);
    };
    run_virtual(main());
}

TEST(Barrier, a_reset_throws_at_those_who_wait_and_it_is_whole_again) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(3);
        co_await barrier.reset();
        std::vector<Task<>> tasks = start_parties(barrier, log, {"a", "b"});
        co_await sleep(1s);
        co_await barrier.reset();
        EXPECT_EQ(barrier.n_waiting(), 0u);
        EXPECT_FALSE(barrier.broken());
        // These come while the others leave.
        for (Task<>& task : start_parties(barrier, log, {"c", "d", "e"})) tasks.push_back(task);
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"a" + BROKEN, "b" + BROKEN, "e 2", "c 0", "d 1"}));
    };
    run_virtual(main());
}

TEST(Barrier, an_aborted_one_throws_until_it_is_reset) {
    Log log;
    auto main = [&]() -> Coro<> {
        Barrier barrier(2);
        std::vector<Task<>> tasks = start_parties(barrier, log, {"a"});
        co_await sleep(1s);
        co_await barrier.abort();
        EXPECT_TRUE(barrier.broken());
        EXPECT_EQ(barrier.n_waiting(), 0u);
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"a" + BROKEN}));
        std::string error = co_await thrown_by_await(barrier.wait());
        EXPECT_EQ(error, "BrokenBarrierError: Barrier aborted");
        EXPECT_TRUE(barrier.broken());
        co_await barrier.reset();
        EXPECT_FALSE(barrier.broken());
        log.clear();
        tasks = start_parties(barrier, log, {"a", "b"});
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"b 1", "a 0"}));
    };
    run_virtual(main());
}

TEST(Barrier, as_a_context_manager_gives_the_position) {
    auto main = []() -> Coro<> {
        Barrier barrier(2);
        std::vector<std::size_t> positions;
        auto enter = [&]() -> Coro<> {
            auto body = [&](std::size_t position) -> Coro<> {
                positions.push_back(position);
                co_return;
            };
            co_await async_with(barrier, body);
        };
        co_await gather(enter(), enter());
        EXPECT_EQ(positions, (std::vector<std::size_t>{1, 0}));
    };
    run_virtual(main());
}

TEST(Barrier, may_be_destroyed_before_its_waiters_are_cancelled) {
    Log log;
    auto main = [&]() -> Coro<> {
        auto barrier = std::make_unique<Barrier>(3);
        std::vector<Task<>> tasks = start_parties(*barrier, log, {"a", "b"});
        co_await sleep(1s);
        barrier.reset();
        co_await turns(3);
        for (Task<>& task : tasks) task.cancel("over");
        co_await gather(tasks);
        EXPECT_EQ(log, (Log{"a CancelledError: over", "b CancelledError: over"}));
    };
    run_virtual(main());
}

TEST(Barrier, with_waiters_may_be_destroyed_with_its_loop) {
    long before = Alive::count();
    LogRecorder log;
    Log ended;
    {
        auto loop = coil::testing::virtual_loop();
        Reports reports(*loop);
        auto main = [&]() -> Coro<> {
            Alive alive;
            Barrier barrier(3);
            std::vector<Task<>> tasks = start_parties(barrier, ended, {"a", "b"});
            co_await sleep(1h);
        };
        {
            Task<> task = loop->create_task(main());
        }
        for (int i = 0; i < 5; ++i) run_one_turn(*loop);
        loop->close();
        loop.reset();
        EXPECT_EQ(reports.texts(), Log(3, "Task was destroyed but it is pending!: nothing"));
    }
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(log.lines().size(), 0u) << log.str();
}
