#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/errors.hpp"
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
