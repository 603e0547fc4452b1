#include "sync/worker_pool.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/gate.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

// The thread sanitizer forbids threads in a forked child.
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define NO_THREADS_IN_A_CHILD
#endif
#endif

using namespace coil;
using namespace coil::detail;
using namespace support;

namespace {

template <class F>
class FunctionWork final : public Work {
  public:
    explicit FunctionWork(F function) : function_(std::move(function)) {}
    void work(std::shared_ptr<Work>) noexcept override { function_(); }

  private:
    F function_;
};
template <class F>
std::shared_ptr<Work> work_of(F function) {
    return std::make_shared<FunctionWork<F>>(std::move(function));
}

// ---- the threads

TEST(WorkerPoolThreads, an_idle_thread_is_used_before_another_is_made) {
    WorkerPool pool(8);
    EXPECT_EQ(pool.threads(), 0u);
    std::set<std::thread::id> ids;
    for (int i = 0; i < 100; ++i) {
        std::promise<std::thread::id> id;
        pool.submit(work_of([&] { id.set_value(std::this_thread::get_id()); }));
        ids.insert(id.get_future().get());
    }
    // A thread that has just finished may not be idle yet when the next work comes.
    EXPECT_LE(pool.threads(), 8u);
    EXPECT_EQ(ids.count(std::this_thread::get_id()), 0u);
}

TEST(WorkerPoolThreads, there_are_never_more_than_the_limit_and_work_is_first_come_first_served) {
    constexpr std::size_t MOST = 3;
    WorkerPool pool(MOST);
    Gate gate;
    std::latch all_busy(MOST);
    std::latch all_done(MOST);
    for (std::size_t i = 0; i < MOST; ++i) {
        pool.submit(work_of([&] {
            all_busy.count_down();
            gate.pass();
            all_done.count_down();
        }));
    }
    all_busy.wait();
    EXPECT_EQ(pool.threads(), MOST);
    std::mutex mutex;
    std::vector<int> begun;
    std::latch rest(50);
    for (int i = 0; i < 50; ++i) {
        pool.submit(work_of([&, i] {
            {
                std::lock_guard lock(mutex);
                begun.push_back(i);
            }
            rest.count_down();
        }));
    }
    EXPECT_EQ(pool.threads(), MOST);
    gate.open();
    rest.wait();
    all_done.wait();
    EXPECT_EQ(begun.size(), 50u);
    EXPECT_LT(begun.front(), static_cast<int>(MOST));

    WorkerPool single(1);
    std::vector<int> order;
    std::promise<void> last;
    for (int i = 0; i < 50; ++i) single.submit(work_of([&, i] { order.push_back(i); }));
    single.submit(work_of([&] { last.set_value(); }));
    last.get_future().wait();
    std::vector<int> expected(50);
    for (int i = 0; i < 50; ++i) expected[static_cast<std::size_t>(i)] = i;
    EXPECT_EQ(order, expected);
}

TEST(WorkerPoolThreads, shutdown_drops_what_is_queued_and_does_not_wait_for_what_runs) {
    long alive = Alive::count();
    Gate gate;
    std::promise<void> running;
    std::promise<void> ended;
    std::atomic<bool> queued_ran = false;
    {
        WorkerPool pool(1);
        pool.submit(work_of([&, here = Alive()] {
            running.set_value();
            gate.pass();
            ended.set_value();
        }));
        running.get_future().wait();
        pool.submit(work_of([&, here = Alive()] { queued_ran = true; }));
        pool.shutdown();
        EXPECT_EQ(Alive::count(), alive + 1) << "the queued work is gone";
        EXPECT_EQ(thrown_by([&] { pool.submit(work_of([] {})); }),
                  "RuntimeError: cannot schedule new futures after shutdown");
        pool.shutdown();
    }
    gate.open();
    ended.get_future().wait();
    EXPECT_FALSE(queued_ran);
}

TEST(WorkerPoolThreads, signals_are_left_to_the_other_threads) {
    WorkerPool pool(1);
    std::promise<sigset_t> mask;
    pool.submit(work_of([&] {
        sigset_t here;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &here);
        mask.set_value(here);
    }));
    sigset_t there = mask.get_future().get();
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGALRM, SIGPIPE, SIGXFSZ})
        EXPECT_TRUE(sigismember(&there, number)) << number;
    EXPECT_FALSE(sigismember(&there, SIGSEGV));
    sigset_t here;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &here);
    EXPECT_FALSE(sigismember(&here, SIGUSR1)) << "the mask of the thread that made it is as before";
}

TEST(WorkerPoolThreads, a_process_may_exit_while_a_thread_works) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // in a process of its own, not a fork of this one
    auto leave = [] {
        WorkerPool pool(2);
        auto running = std::make_shared<std::promise<void>>();
        auto future = running->get_future();
        pool.submit(work_of([running] {
            running->set_value();
            std::promise<void>().get_future().wait();
        }));
        future.wait();
        pool.submit(work_of([] {}));
        pool.shutdown();
        std::exit(7);
    };
    EXPECT_EXIT(leave(), ::testing::ExitedWithCode(7), "^$");
}

#ifndef NO_THREADS_IN_A_CHILD
TEST(WorkerPoolThreads, a_forked_child_gets_threads_of_its_own) {
    auto loop = epoll_loop();
    auto answer = []() -> Coro<int> {
        auto call = [] { return 42; };
        co_return co_await in_worker("call", call);
    };
    EXPECT_EQ(loop->run_until_complete(answer()), 42);
    ChildResult child = in_child([&] {
        int got = loop->run_until_complete(answer());
        loop->close();
        return got;
    });
    EXPECT_EQ(child.exit_code, 42) << child.output;
    EXPECT_EQ(loop->run_until_complete(answer()), 42);
    loop->close();
}

#endif

// ---- calls for a loop

class WorkerPoolCalls : public OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(WorkerPoolCalls);

TEST_P(WorkerPoolCalls, give_the_result_or_throw_the_exception_in_the_loops_thread) {
    run([]() -> Coro<> {
        std::thread::id here = std::this_thread::get_id();
        std::thread::id there = co_await in_worker("id", [] { return std::this_thread::get_id(); });
        EXPECT_NE(here, there);
        EXPECT_EQ(std::this_thread::get_id(), here);

        auto moved = co_await in_worker("move only", [] { return MoveOnly(3); });
        EXPECT_EQ(moved.value, 3);
        bool called = false;
        co_await in_worker("nothing", [&called] { called = true; });
        EXPECT_TRUE(called);

        auto fail = []() -> int { throw ValueError("no"); };
        EXPECT_EQ(co_await thrown_by_await(in_worker("fail", fail)), "ValueError: no");
        auto odd = [] { throw 3; };
        EXPECT_EQ(co_await thrown_by_await(in_worker("odd", odd)), "int");
    }());
}

TEST_P(WorkerPoolCalls, a_thousand_calls_of_many_tasks_in_many_threads_come_back) {
    int sum = run([]() -> Coro<int> {
        std::vector<Coro<int>> calls;
        for (int i = 0; i < 1000; ++i) {
            auto call = [i] { return i; };
            calls.push_back(in_worker("call", call));
        }
        int total = 0;
        for (int result : co_await gather(std::move(calls))) total += result;
        EXPECT_LE(WorkerPool::of(get_running_loop()).threads(), WorkerPool::default_threads());
        co_return total;
    }());
    EXPECT_EQ(sum, 499'500);
}

TEST_P(WorkerPoolCalls, a_cancelled_wait_is_over_at_once_and_its_result_is_dropped) {
    long alive = Alive::count();
    run([]() -> Coro<> {
        auto gate = std::make_shared<Gate>();
        auto begun = std::make_shared<std::latch>(1);
        auto ended = std::make_shared<std::latch>(1);
        auto block = [gate, begun, ended] {
            begun->count_down();
            gate->pass();
            ended->count_down();
            return Alive();
        };
        auto task = create_task(in_worker("block", block));
        co_await turns(1);
        begun->wait();
        EXPECT_NE(detail::describe_stuck(task.task()).find("block"), std::string::npos);
        EXPECT_TRUE(task.cancel());
        co_await turns(1);
        EXPECT_TRUE(task.cancelled());
        gate->open();
        ended->wait();
        co_await in_worker("next", [] {});
    }());
    // A call that outlives its loop is dropped in its thread, which may still be at it.
    while (Alive::count() != alive) std::this_thread::yield();
}

TEST_P(WorkerPoolCalls, one_that_has_not_begun_is_never_made_after_a_cancellation) {
    run([]() -> Coro<> {
        auto gate = std::make_shared<Gate>();
        std::size_t most = WorkerPool::default_threads();
        auto busy = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(most));
        std::vector<Task<>> blocked;
        auto block = [gate, busy] {
            busy->count_down();
            gate->pass();
        };
        for (std::size_t i = 0; i < most; ++i) blocked.push_back(create_task(in_worker("block", block)));
        co_await turns(1);
        busy->wait();
        auto made = std::make_shared<std::atomic<bool>>(false);
        auto call = [made] { *made = true; };
        auto task = create_task(in_worker("late", call));
        co_await turns(2);
        task.cancel();
        co_await try_await(task);
        gate->open();
        co_await coil::wait(blocked);
        co_await in_worker("behind it", [] {});
        EXPECT_FALSE(*made);
    }());
}

TEST_P(WorkerPoolCalls, an_exception_that_comes_too_late_is_reported_unless_it_is_to_be_dropped) {
    for (LateError late : {LateError::REPORT, LateError::DROP}) {
        auto loop = make_loop();
        Reports reports(*loop);
        loop->run_until_complete([](LateError policy, Reports& told) -> Coro<> {
            auto gate = std::make_shared<Gate>();
            auto begun = std::make_shared<std::promise<void>>();
            auto future = begun->get_future();
            auto fail = [gate, begun] {
                begun->set_value();
                gate->pass();
                throw ValueError("too late");
            };
            auto task = create_task(in_worker("fail", fail, policy));
            co_await turns(1);
            future.wait();
            task.cancel();
            co_await try_await(task);
            EXPECT_TRUE(told.empty());
            gate->open();
            if (policy == LateError::REPORT) {
                while (told.empty()) co_await coil::sleep(1ms);
            } else {
                for (int i = 0; i < 20; ++i) co_await in_worker("behind it", [] {});
            }
        }(late, reports));
        if (late == LateError::REPORT) {
            EXPECT_EQ(reports.texts(),
                      std::vector<std::string>{"A call in a thread failed after the task that waited for it "
                                               "was cancelled: ValueError: too late"});
            EXPECT_EQ(reports[0].details.at("call"), "fail");
        } else {
            EXPECT_TRUE(reports.empty());
        }
        loop->close();
    }
}

TEST_P(WorkerPoolCalls, may_be_cancelled_at_any_time_for_thousands_of_rounds) {
    long alive = Alive::count();
    std::size_t fds = open_fds();
    run([]() -> Coro<> {
        for (int round = 0; round < 3000; ++round) {
            auto call = [here = Alive(), round] { return round; };
            auto task = create_task(in_worker("call", call));
            co_await turns(round % 4);
            if (round % 8 >= 4) co_await in_worker("meanwhile", [] {});
            bool cut = task.cancel();
            if (round % 3 == 0) task.cancel();
            auto outcome = co_await try_await(task);
            EXPECT_EQ(outcome.cancelled(), cut);
            if (outcome) {
                EXPECT_EQ(outcome.value(), round);
            }
        }
        EXPECT_EQ(get_running_loop().core().awaited_elsewhere, 0u);
    }());
    while (Alive::count() != alive) std::this_thread::yield();
    EXPECT_EQ(open_fds(), fds);
}

TEST_P(WorkerPoolCalls, a_loop_closes_while_calls_run_and_are_queued) {
    long alive = Alive::count();
    auto gate = std::make_shared<Gate>();
    {
        auto loop = make_loop();
        LogRecorder log;
        auto begun = std::make_shared<std::promise<void>>();
        auto future = begun->get_future();
        auto first = [gate, begun, here = Alive()] {
            begun->set_value();
            gate->pass();
            return Alive();
        };
        auto block = [gate, here = Alive()] { gate->pass(); };
        std::vector<Task<>> tasks;
        tasks.push_back(loop->create_task(in_worker("first", first)));
        for (int i = 0; i < 100; ++i) tasks.push_back(loop->create_task(in_worker("block", block)));
        run_one_turn(*loop);
        future.wait();
        loop->close();
        loop.reset();  // the tasks are still pending: their frames go
        EXPECT_EQ(log.count("Task was destroyed but it is pending!"), 101u);
    }
    gate->open();
    while (Alive::count() != alive) std::this_thread::yield();
}

TEST(WorkerPoolVirtual, time_stands_still_while_a_thread_works) {
    run_virtual([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        TimePoint begin = loop.time();
        auto slow = create_task(coil::sleep(1h));
        int result = co_await in_worker("call", [] { return 7; });
        EXPECT_EQ(result, 7);
        EXPECT_EQ(loop.time(), begin);
        co_await slow;
        EXPECT_EQ(loop.time(), begin + 1h);
    }());
}

}  // namespace
