#include "coil/testing/virtual_loop.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "support/errors.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace support;

namespace {

std::string deadlock_text(Coro<> main) {
    try {
        run_virtual(std::move(main));
    } catch (const coil::testing::DeadlockError& e) {
        return e.what();
    }
    return "no deadlock";
}

}  // namespace

TEST(VirtualLoop, passes_years_at_once) {
    auto main = []() -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_EQ(loop.backend(), "virtual");
        TimePoint start = loop.time();
        co_await sleep(std::chrono::years(10));
        EXPECT_EQ(loop.time() - start, Duration(std::chrono::years(10)));
    };
    auto began = std::chrono::steady_clock::now();
    run_virtual(main());
    EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

TEST(VirtualLoop, time_stands_still_while_anything_can_run) {
    auto main = []() -> Coro<> {
        TimePoint start = get_running_loop().time();
        co_await turns(1000);
        EXPECT_EQ(get_running_loop().time(), start);
        bool fired = false;
        get_running_loop().call_later(1ns, [&] { fired = true; });
        co_await turns(1000);
        EXPECT_FALSE(fired);
        co_await sleep(2ns);
        EXPECT_TRUE(fired);
    };
    run_virtual(main());
}

TEST(VirtualLoop, a_deadlock_is_an_error_that_names_the_tasks_and_what_they_wait_for) {
    auto main = []() -> Coro<> {
        Lock lock;
        Event event;
        Semaphore semaphore(1);
        Queue<int> queue;
        Queue<int> full(1);
        Future<> future = get_running_loop().create_future();
        co_await lock.acquire();
        co_await semaphore.acquire();
        full.put_nowait(1);
        auto on_lock = [](Lock& l) -> Coro<> { co_await l.acquire(); };
        auto on_event = [](Event& e) -> Coro<> { co_await e.wait(); };
        auto on_semaphore = [](Semaphore& s) -> Coro<> { co_await s.acquire(); };
        auto on_get = [](Queue<int>& q) -> Coro<> { co_await q.get(); };
        auto on_put = [](Queue<int>& q) -> Coro<> { co_await q.put(2); };
        auto on_future = [](Future<> f) -> Coro<> { co_await f; };
        auto on_task = [](Task<> t) -> Coro<> { co_await t; };
        Task<> lock_task = create_task(on_lock(lock), {.name = "locker"});
        Task<> event_task = create_task(on_event(event), {.name = "eventer"});
        Task<> semaphore_task = create_task(on_semaphore(semaphore), {.name = "semaphorer"});
        Task<> get_task = create_task(on_get(queue), {.name = "getter"});
        Task<> put_task = create_task(on_put(full), {.name = "putter"});
        Task<> future_task = create_task(on_future(future), {.name = "futurer"});
        Task<> task_task = create_task(on_task(lock_task), {.name = "tasker"});
        current_task().set_name("main task");
        co_await gather(lock_task, event_task, semaphore_task, get_task, put_task, future_task, task_task);
    };
    std::string text = deadlock_text(main());
    for (std::string_view part :
         {"deadlock", "Task 'main task' waiting for", "Task 'locker' waiting for Lock.acquire",
          "Task 'eventer' waiting for Event.wait", "Task 'semaphorer' waiting for Semaphore.acquire",
          "Task 'getter' waiting for Queue.get", "Task 'putter' waiting for Queue.put",
          "Task 'futurer' waiting for Future", "Task 'tasker' waiting for Task 'locker'",
          "test_virtual_loop.cpp:"}) {
        EXPECT_TRUE(contains(text, part)) << "misses '" << part << "' in\n" << text;
    }
}

TEST(VirtualLoop, a_deadlock_in_combinators_says_so) {
    auto waiting = []() -> Coro<> {
        Event never;
        Task<> child =
            create_task(Coro<>([](Event& e) -> Coro<> { co_await e.wait(); }(never)), {.name = "child"});
        std::vector<Task<>> tasks{child};
        co_await wait(tasks);
    };
    EXPECT_TRUE(contains(deadlock_text(waiting()), "waiting for wait for 1 of 1 futures"));
    auto grouped = []() -> Coro<> {
        Event never;
        auto child = [](Event& e) -> Coro<> { co_await e.wait(); };
        auto body = [&](TaskGroup& group) -> Coro<> {
            group.create_task(child(never));
            co_return;
        };
        co_await async_with(TaskGroup(), body);
    };
    EXPECT_TRUE(contains(deadlock_text(grouped()), "TaskGroup with 1 unfinished children"));
}

TEST(VirtualLoop, a_deadlock_of_a_loop_without_tasks_is_an_error_too) {
    VirtualLoop loop;
    EXPECT_TRUE(contains(thrown_by([&] { loop->run_forever(); }), "the loop was asked to run for ever"));
    EXPECT_FALSE(loop->is_running());
    loop->call_soon([&] { loop->stop(); });
    loop->run_forever();
}

TEST(VirtualLoop, watches_no_descriptors) {
    VirtualLoop loop;
    EXPECT_NE(thrown_by([&] { loop->add_reader(0, [] {}); }), "nothing");
}

TEST(VirtualLoop, a_call_from_another_Thread_before_the_run_is_seen) {
    VirtualLoop loop;
    bool called = false;
    std::thread other([&] {
        loop->call_soon_threadsafe([&] {
            called = true;
            loop->stop();
        });
    });
    other.join();
    loop->run_forever();
    EXPECT_TRUE(called);
}

TEST(VirtualLoop, a_signal_does_not_look_like_a_deadlock) {
    VirtualLoop loop;
    bool called = false;
    loop->add_signal_handler(SIGUSR1, [&] {
        called = true;
        loop->stop();
    });
    ::raise(SIGUSR1);
    loop->run_forever();
    EXPECT_TRUE(called);
}
