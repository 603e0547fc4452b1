#include "coil/executors.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/gate.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

std::string thread_name() {
    std::array<char, 16> name{};
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    return name.data();
}

// ---- the pool without a loop

TEST(ThreadPool, calls_functions_with_arguments) {
    ThreadPoolExecutor pool(2);
    auto sum = pool.submit([](int a, const std::string& b) { return a + static_cast<int>(b.size()); }, 1,
                           std::string("abc"));
    auto moved = pool.submit([](std::unique_ptr<int> n) { return n; }, std::make_unique<int>(5));
    auto failed = pool.submit([]() -> int { throw ValueError("in a thread"); });
    auto odd = pool.submit([] { throw 3; });
    EXPECT_EQ(sum.result(), 4);
    EXPECT_EQ(*std::move(moved).result(), 5);
    EXPECT_EQ(thrown_by([&] { failed.result(); }), "ValueError: in a thread");
    EXPECT_THROW(odd.result(), int);
    static int number = 6;
    EXPECT_EQ(&pool.submit([]() -> int& { return number; }).result(), &number);
}

TEST(ThreadPool, one_thread_serves_in_order_and_an_idle_one_is_used_again) {
    ThreadPoolExecutor pool(1);
    std::vector<int> order;
    std::set<std::thread::id> threads;
    for (int i = 0; i < 100; ++i) {
        static_cast<void>(pool.submit([&, i] {
            order.push_back(i);
            threads.insert(std::this_thread::get_id());
        }));
    }
    pool.shutdown();
    EXPECT_EQ(order.size(), 100u);
    EXPECT_TRUE(std::ranges::is_sorted(order));
    EXPECT_EQ(threads.size(), 1u);
    EXPECT_FALSE(threads.contains(std::this_thread::get_id()));
}

TEST(ThreadPool, sizes_and_names_are_python_s) {
    EXPECT_EQ(thrown_by([] { ThreadPoolExecutor none(0); }),
              "ValueError: max_workers must be greater than 0");
    ThreadPoolExecutor named(1, ThreadPoolOptions{.thread_name_prefix = "digest"});
    EXPECT_EQ(named.submit(thread_name).result(), "digest_0");
    ThreadPoolExecutor unnamed;
    EXPECT_TRUE(unnamed.submit(thread_name).result().starts_with("pool-"));
    ThreadPoolExecutor long_name(1, ThreadPoolOptions{.thread_name_prefix = "a name of more than that"});
    EXPECT_EQ(long_name.submit(thread_name).result(), "a name of more ");
}

TEST(ThreadPool, arguments_are_gone_when_the_future_is_done) {
    ThreadPoolExecutor pool(1);
    auto object = std::make_shared<int>(1);
    std::weak_ptr<int> watch = object;
    auto future = pool.submit([](const std::shared_ptr<int>& o) { return *o; }, std::move(object));
    EXPECT_EQ(future.result(), 1);
    EXPECT_TRUE(watch.expired());
}

TEST(ThreadPool, shutdown_waits_and_forbids) {
    ThreadPoolExecutor pool(2);
    std::atomic<int> done = 0;
    for (int i = 0; i < 50; ++i) static_cast<void>(pool.submit([&] { ++done; }));
    pool.shutdown();
    EXPECT_EQ(done, 50);
    pool.shutdown();
    EXPECT_EQ(thrown_by([&] { static_cast<void>(pool.submit([] {})); }),
              "RuntimeError: cannot schedule new futures after shutdown");
}

TEST(ThreadPool, shutdown_can_cancel_what_has_not_begun) {
    ThreadPoolExecutor pool(1);
    Gate gate;
    std::latch begun(1);
    auto running = pool.submit([&] {
        begun.count_down();
        gate.pass();
        return 1;
    });
    begun.wait();
    auto queued = pool.submit([] { return 2; });
    pool.shutdown({.wait = false, .cancel_futures = true});
    EXPECT_TRUE(queued.cancelled());
    EXPECT_TRUE(running.running());
    gate.open();
    EXPECT_EQ(running.result(), 1);
    pool.shutdown();
}

TEST(ThreadPool, without_waiting_what_was_submitted_goes_on_in_the_background) {
    Gate gate;
    std::vector<concurrent::Future<int>> futures;
    {
        ThreadPoolExecutor pool(1);
        for (int i = 0; i < 3; ++i) {
            futures.push_back(pool.submit([&gate, i] {
                gate.pass();
                return i;
            }));
        }
        pool.shutdown({.wait = false});
    }
    EXPECT_FALSE(futures[2].done());
    gate.open();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].result(), i);
}

TEST(ThreadPool, a_thread_of_the_pool_cannot_wait_for_its_end) {
    ThreadPoolExecutor pool(1);
    auto future = pool.submit([&] { pool.shutdown(); });
    EXPECT_EQ(thrown_by([&] { future.result(); }),
              "RuntimeError: a thread of the pool cannot wait for the pool's end");
}

TEST(ThreadPool, a_pool_may_be_destroyed_by_its_own_thread) {
    LogRecorder log;
    auto pool = std::make_shared<ThreadPoolExecutor>(1);
    ThreadPoolExecutor& same = *pool;
    Gate gate;
    auto future = same.submit([owner = std::move(pool), &gate]() mutable {
        gate.pass();
        owner.reset();
        return 1;
    });
    gate.open();
    EXPECT_EQ(future.result(), 1);
    EXPECT_EQ(log.count("destroying a ThreadPoolExecutor"), 1u) << log.str();
}

TEST(ThreadPool, an_initializer_runs_first_in_every_thread) {
    static thread_local int prepared = 0;
    std::atomic<int> calls = 0;
    ThreadPoolExecutor pool(2, std::function<void()>([&] {
                                prepared = 7;
                                ++calls;
                            }));
    std::latch both(2);
    auto look = [&] {
        both.arrive_and_wait();
        return prepared;
    };
    auto a = pool.submit(look);
    auto b = pool.submit(look);
    EXPECT_EQ(a.result() + b.result(), 14);
    EXPECT_EQ(calls, 2);
}

TEST(ThreadPool, a_failing_initializer_breaks_the_pool) {
    LogRecorder log;
    Gate gate;
    ThreadPoolExecutor pool(1, std::function<void()>([&] {
                                gate.pass();
                                throw ValueError("cannot begin");
                            }));
    auto first = pool.submit([] { return 1; });
    auto second = pool.submit([] { return 2; });
    gate.open();
    const char* broken =
        "BrokenThreadPool: A thread initializer failed, the thread pool is not usable anymore";
    EXPECT_EQ(thrown_by([&] { first.result(); }), broken);
    EXPECT_EQ(thrown_by([&] { second.result(); }), broken);
    EXPECT_EQ(thrown_by([&] { static_cast<void>(pool.submit([] {})); }), broken);
    EXPECT_EQ(log.count("cannot begin"), 1u) << log.str();
}

TEST(ThreadPool, map_gives_results_in_the_order_of_the_items) {
    ThreadPoolExecutor pool(2);
    std::vector<int> results;
    for (int n : pool.map([](int i) { return i * i; }, std::vector<int>{3, 1, 2})) results.push_back(n);
    EXPECT_EQ(results, (std::vector<int>{9, 1, 4}));
    auto failing = [](int i) {
        if (i == 2) throw ValueError("two");
        return i;
    };
    std::string seen;
    EXPECT_EQ(thrown_by([&] {
                  for (int n : pool.map(failing, std::vector<int>{1, 2, 3})) seen += std::to_string(n);
              }),
              "ValueError: two");
    EXPECT_EQ(seen, "1");
}

TEST(ThreadPool, map_cancels_what_has_not_begun_when_it_is_left) {
    ThreadPoolExecutor pool(1);
    Gate gate;
    std::atomic<int> calls = 0;
    {
        auto results = pool.map(
            [&](int i) {
                gate.pass();
                ++calls;
                return i;
            },
            std::vector<int>{1, 2, 3, 4});
        MapResults<int> moved = std::move(results);
        auto nothing_yet = [&] {
            auto limited = pool.map([](int i) { return i; }, std::vector<int>{1}, {.timeout = 1ms});
            return *limited.begin();
        };
        EXPECT_EQ(thrown_by(nothing_yet), "TimeoutError: timed out");
    }
    gate.open();
    pool.shutdown();
    EXPECT_LE(calls, 1);
}

// ---- beside a loop

class CallsInThreads : public OnBackend {
  protected:
    void run(Coro<> coro) { coil::run(std::move(coro), {.loop_factory = factory()}); }
};
ON_EVERY_BACKEND(CallsInThreads);

TEST_P(CallsInThreads, a_result_or_an_exception_arrives_in_the_loop) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        EXPECT_EQ(co_await loop.run_in_executor(nullptr, [](int a, int b) { return a + b; }, 1, 2), 3);
        auto fail = [] { throw ValueError("over there"); };
        EXPECT_EQ(co_await thrown_by_await(loop.run_in_executor(nullptr, fail)), "ValueError: over there");
        std::string name = co_await loop.run_in_executor(nullptr, thread_name);
        EXPECT_TRUE(name.starts_with("asyncio_")) << name;  // an earlier thread may not be idle yet
        ThreadPoolExecutor pool(1);
        auto box = co_await loop.run_in_executor(&pool, [] { return std::make_unique<int>(4); });
        EXPECT_EQ(*box, 4);
    }());
}

TEST_P(CallsInThreads, cancelling_the_future_keeps_a_queued_call_from_beginning) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        ThreadPoolExecutor pool(1);
        Gate gate;
        auto running = loop.run_in_executor(&pool, [&] { gate.pass(); });
        bool called = false;
        auto queued = loop.run_in_executor(&pool, [&] { called = true; });
        EXPECT_TRUE(queued.cancel());
        co_await turns(2);
        gate.open();
        co_await running;
        pool.shutdown();
        EXPECT_TRUE(queued.cancelled());
        EXPECT_FALSE(called);
    }());
}

TEST_P(CallsInThreads, what_a_call_throws_after_its_future_was_cancelled_is_reported) {
    Reports reports;
    run([](Reports& seen) -> Coro<> {
        auto& loop = get_running_loop();
        seen.record(loop);
        ThreadPoolExecutor pool(1);
        Gate gate;
        std::latch begun(1);
        auto call = [&] {
            begun.count_down();
            gate.pass();
            throw ValueError("late");
        };
        auto future = loop.run_in_executor(&pool, call);
        begun.wait();
        EXPECT_TRUE(future.cancel());
        co_await turns(2);
        gate.open();
        pool.shutdown();
        while (seen.empty()) co_await coil::sleep(1ms);
    }(reports));
    EXPECT_EQ(reports.texts(),
              (std::vector<std::string>{
                  "A call in an executor failed after its future was cancelled: ValueError: late"}));
}

TEST_P(CallsInThreads, a_dropped_future_s_exception_is_reported) {
    Reports reports;
    run([](Reports& seen) -> Coro<> {
        seen.record(get_running_loop());
        static_cast<void>(
            get_running_loop().run_in_executor(nullptr, [] { throw ValueError("nobody waits"); }));
        while (seen.empty()) co_await coil::sleep(1ms);
    }(reports));
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].error, "ValueError: nobody waits");
}

TEST_P(CallsInThreads, the_default_executor_can_be_set) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        constexpr ThreadPoolOptions ONE{.thread_name_prefix = "one"};
        constexpr ThreadPoolOptions TWO{.thread_name_prefix = "two"};
        loop.set_default_executor(std::make_shared<ThreadPoolExecutor>(1, ONE));
        EXPECT_EQ(co_await loop.run_in_executor(nullptr, thread_name), "one_0");
        Gate gate;
        auto blocked = loop.run_in_executor(nullptr, [&] { gate.pass(); });
        loop.set_default_executor(
            std::make_shared<ThreadPoolExecutor>(1, TWO));  // does not wait for the first
        EXPECT_EQ(co_await loop.run_in_executor(nullptr, thread_name), "two_0");
        gate.open();
        co_await blocked;
        EXPECT_EQ(thrown_by([&] { loop.set_default_executor(nullptr); }),
                  "TypeError: executor must be ThreadPoolExecutor instance");
    }());
}

TEST_P(CallsInThreads, shutting_down_the_default_executor_gives_up_when_time_is_up) {
    LogRecorder log;
    Gate gate;
    run([](Gate& door) -> Coro<> {
        auto& loop = get_running_loop();
        auto blocked = loop.run_in_executor(nullptr, [&] { door.pass(); });
        co_await loop.shutdown_default_executor(1ms);
        EXPECT_FALSE(blocked.done());
        EXPECT_EQ(thrown_by([&] { static_cast<void>(loop.run_in_executor(nullptr, [] {})); }),
                  "RuntimeError: Executor shutdown has been called");
        door.open();
        co_await blocked;
        co_await loop.shutdown_default_executor();
    }(gate));
    EXPECT_EQ(log.count("did not finishing joining its threads within 0.001 seconds"), 1u) << log.str();
}

TEST_P(CallsInThreads, a_loop_may_close_while_calls_run) {
    struct Shared {
        Gate gate;
        std::latch begun{2};
    };
    auto shared = std::make_shared<Shared>();  // with the call that goes on in the background
    LogRecorder log;
    std::size_t fds = open_fds();
    std::optional<Future<int>> outlives;
    {
        std::unique_ptr<EventLoop> loop = factory()();
        ThreadPoolExecutor pool(1);
        auto call = [shared] {
            shared->begun.count_down();
            shared->gate.pass();
            return 1;
        };
        outlives = loop->run_in_executor(&pool, call);
        auto by_default = loop->run_in_executor(nullptr, [call]() -> int {
            call();
            throw ValueError("unheard");  // by the loop, which is gone
        });
        shared->begun.wait();
        loop->close();
        EXPECT_FALSE(outlives->done());
        shared->gate.open();
    }
    EXPECT_FALSE(outlives->done());
    EXPECT_EQ(open_fds(), fds);
    while (log.count("unheard") == 0) std::this_thread::yield();
}

TEST_P(CallsInThreads, thousands_of_calls_are_cancelled_at_every_moment_and_nothing_is_lost) {
    Alive alive;
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        ThreadPoolExecutor pool(2);
        std::atomic<int> begun = 0;
        int cancelled = 0;
        int finished = 0;
        for (int round = 0; round < 3000; ++round) {
            auto future = loop.run_in_executor(&pool, [&] { ++begun; });
            for (int i = round % 4; i > 0; --i) co_await coil::sleep(0s);
            if (round % 3) future.cancel();
            auto outcome = co_await try_await(future);
            outcome ? ++finished : ++cancelled;
        }
        pool.shutdown();
        EXPECT_EQ(finished + cancelled, 3000);
        EXPECT_GE(begun, finished);
        EXPECT_GE(finished, 1000);
    }());
}

TEST(ExecutorsOnVirtualTime, a_call_takes_no_time) {
    run_virtual([]() -> Coro<> {
        auto& loop = get_running_loop();
        TimePoint before = loop.time();
        auto future = loop.run_in_executor(nullptr, [] { std::this_thread::sleep_for(2ms); });
        auto timer = create_task(coil::sleep(1h));
        co_await future;
        EXPECT_EQ(loop.time(), before);
        timer.cancel();
    }());
}

}  // namespace
