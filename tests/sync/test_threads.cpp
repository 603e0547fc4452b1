#include "coil/threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/gate.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

class Threads : public OnBackend {
  protected:
    void run(Coro<> coro) { coil::run(std::move(coro), {.loop_factory = factory()}); }
};
ON_EVERY_BACKEND(Threads);

TEST_P(Threads, to_thread_gives_results_exceptions_and_move_only_values) {
    run([]() -> Coro<> {
        auto here = std::this_thread::get_id();
        EXPECT_NE(co_await to_thread(std::this_thread::get_id), here);
        auto box = std::make_unique<int>(2);
        auto twice = [](std::unique_ptr<int> n) { return std::make_unique<int>(*n * 2); };
        EXPECT_EQ(*co_await to_thread(twice, std::move(box)), 4);
        auto fail = []() -> int { throw ValueError("far away"); };
        EXPECT_EQ(co_await thrown_by_await(to_thread(fail)), "ValueError: far away");
    }());
}

TEST_P(Threads, to_thread_runs_in_a_copy_of_the_context) {
    static ContextVar<int> variable("variable", 0);
    run([]() -> Coro<> {
        variable.set(1);
        auto change = [] {
            int before = variable.get();
            variable.set(2);
            return before;
        };
        EXPECT_EQ(co_await to_thread(change), 1);
        EXPECT_EQ(variable.get(), 1);
    }());
}

TEST_P(Threads, a_child_of_a_call_can_be_terminated) {
    run([]() -> Coro<> {
        auto terminate_itself = [] { return std::system("kill -TERM $$; exit 3"); };
        EXPECT_EQ(co_await to_thread(terminate_itself), SIGTERM);
    }());
}

TEST_P(Threads, a_cancelled_wait_is_over_at_once_and_the_call_goes_on) {
    Reports reports;
    run([](Reports& seen) -> Coro<> {
        seen.record(get_running_loop());
        Gate gate;
        std::latch begun(1);
        auto call = [&] {
            begun.count_down();
            gate.pass();
            throw ValueError("after all");
        };
        auto task = create_task(to_thread(call));
        co_await turns(1);
        begun.wait();
        task.cancel();
        EXPECT_EQ(co_await thrown_by_await(task), "CancelledError");
        EXPECT_TRUE(seen.empty());
        gate.open();
        while (seen.empty()) co_await coil::sleep(1ms);
        EXPECT_EQ(seen[0].error, "ValueError: after all");
    }(reports));
}

/// A loop that runs in a thread of its own until the scope ends.
class LoopThread {
  public:
    explicit LoopThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {
        thread_ = std::thread([this] { loop_->run_forever(); });
    }
    ~LoopThread() {
        if (thread_.joinable()) stop();
        loop_->close();
    }
    void stop() {
        loop_->call_soon_threadsafe([this] { loop_->stop(); });
        thread_.join();
    }
    EventLoop& operator*() const { return *loop_; }
    EventLoop* operator->() const { return loop_.get(); }

  private:
    std::unique_ptr<EventLoop> loop_;
    std::thread thread_;
};

Coro<std::string> join(std::string a, std::string b) {
    co_await coil::sleep(1ms);
    co_return a + b;
}

Coro<> forever(std::atomic<bool>& cancelled) {
    try {
        co_await get_running_loop().create_future();
    } catch (const CancelledError&) {
        cancelled = true;
        throw;
    }
}

TEST_P(Threads, another_thread_asks_for_a_coroutine) {
    LoopThread loop(factory()());
    EXPECT_EQ(run_coroutine_threadsafe(join("a", "b"), *loop).result(10s), "ab");
    auto fails = []() -> Coro<int> {
        co_await coil::sleep(0s);
        throw ValueError("in the loop");
    };
    auto failed = run_coroutine_threadsafe(fails(), *loop);
    EXPECT_EQ(thrown_by([&] { failed.result(); }), "ValueError: in the loop");
    auto box = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    EXPECT_EQ(*run_coroutine_threadsafe(box(), *loop).result(), 3);
}

TEST_P(Threads, cancelling_the_concurrent_future_cancels_the_task) {
    LoopThread loop(factory()());
    std::atomic<bool> cancelled = false;
    auto future = run_coroutine_threadsafe(forever(cancelled), *loop);
    EXPECT_EQ(thrown_by([&] { future.result(10ms); }), "TimeoutError: timed out");
    EXPECT_TRUE(future.cancel());
    EXPECT_TRUE(future.cancelled());
    // Behind what the cancellation has queued.
    for (int i = 0; i < 3; ++i) run_coroutine_threadsafe(coil::sleep(0s, 0), *loop).result();
    EXPECT_TRUE(cancelled);
}

TEST_P(Threads, cancelling_the_task_cancels_the_concurrent_future) {
    LoopThread loop(factory()());
    auto cancels_itself = []() -> Coro<> {
        current_task().cancel();
        co_await coil::sleep(0s);
    };
    auto future = run_coroutine_threadsafe(cancels_itself(), *loop);
    EXPECT_EQ(thrown_by([&] { future.result(); }), "CancelledError: the concurrent future was cancelled");
}

TEST_P(Threads, a_loop_that_closes_cancels_what_other_threads_wait_for) {
    std::atomic<bool> cancelled = false;
    concurrent::Future<> begun, queued;
    {
        LoopThread loop(factory()());
        begun = run_coroutine_threadsafe(forever(cancelled), *loop);
        run_coroutine_threadsafe(coil::sleep(0s, 0), *loop).result();
        loop.stop();
        queued = run_coroutine_threadsafe(forever(cancelled), *loop);
        loop->close();
        EXPECT_EQ(thrown_by([&] { static_cast<void>(run_coroutine_threadsafe(forever(cancelled), *loop)); }),
                  "RuntimeError: Event loop is closed");
    }
    EXPECT_TRUE(begun.cancelled());
    EXPECT_TRUE(queued.cancelled());
}

TEST_P(Threads, a_blocking_wait_in_the_loop_s_own_thread_is_refused) {
    run([]() -> Coro<> {
        auto future = run_coroutine_threadsafe(coil::sleep(0s, 4), get_running_loop());
        EXPECT_EQ(thrown_by([&] { future.result(); }),
                  "RuntimeError: a blocking wait in the thread of the loop that is to compute the result");
        EXPECT_EQ(co_await wrap_future(future), 4);
        EXPECT_EQ(future.result(), 4);
    }());
}

TEST_P(Threads, wrap_future_waits_without_blocking) {
    run([]() -> Coro<> {
        concurrent::Future<std::string> source;
        auto wrapped = wrap_future(source);
        std::thread thread([&] { source.set_result("a value"); });
        EXPECT_EQ(co_await wrapped, "a value");
        EXPECT_EQ(source.result(), "a value");
        thread.join();

        concurrent::Future<> failing;
        auto fails = wrap_future(failing);
        failing.set_exception(ValueError("wrapped"));
        EXPECT_EQ(co_await thrown_by_await(fails), "ValueError: wrapped");

        concurrent::Future<> cancelled;
        auto is_cancelled = wrap_future(cancelled);
        cancelled.cancel();
        EXPECT_EQ(co_await thrown_by_await(is_cancelled), "CancelledError");

        concurrent::Future<> kept;
        auto cancels = wrap_future(kept);
        cancels.cancel();
        co_await turns(1);
        EXPECT_TRUE(kept.cancelled());

        Future<int> own = get_running_loop().create_future<int>();
        EXPECT_EQ(wrap_future(own), own);
        own.set_result(0);
    }());
}

TEST_P(Threads, a_wrapped_future_ends_one_turn_after_its_source_is_known_to_be_done) {
    run([]() -> Coro<> {
        concurrent::Future<int> source;
        source.set_result(1);
        auto wrapped = wrap_future(source);
        EXPECT_FALSE(wrapped.done());
        co_await turns(1);
        EXPECT_TRUE(wrapped.done());
    }());
}

/// A value that can be copied a few times only.
struct Brittle {
    explicit Brittle(int copies) : copies_left(copies) {}
    Brittle(const Brittle& other) : copies_left(other.copies_left - 1) {
        if (copies_left < 0) throw ValueError("it breaks");
    }
    Brittle& operator=(const Brittle&) = delete;
    int copies_left;
};

TEST_P(Threads, a_value_that_breaks_on_its_way_is_an_error_wherever_it_breaks) {
    LoopThread loop(factory()());
    run([]() -> Coro<> {
        concurrent::Future<Brittle> source;
        auto wrapped = wrap_future(source);
        source.set_result(Brittle(1));
        EXPECT_EQ(co_await thrown_by_await(std::move(wrapped)), "ValueError: it breaks");
    }());
    auto make = [](int copies) -> Coro<Brittle> { co_return Brittle(copies); };
    std::string outcomes;
    for (int copies = 0; copies < 8; ++copies) {
        auto arriving = run_coroutine_threadsafe(make(copies), *loop);
        std::string error = thrown_by([&] { static_cast<void>(arriving.result(10s)); });
        EXPECT_TRUE(error == "nothing" || error == "ValueError: it breaks") << error;
        outcomes += error == "nothing" ? '.' : 'x';
    }
    EXPECT_TRUE(outcomes.starts_with('x') && outcomes.ends_with('.')) << outcomes;
}

TEST_P(Threads, eight_threads_ask_and_cancel_at_once) {
    LoopThread loop(factory()());
    std::atomic<int> results = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 200; ++i) {
                auto future = run_coroutine_threadsafe(coil::sleep(0s, i), *loop);
                if ((i + t) % 3 == 0) future.cancel();
                auto text = thrown_by([&] { EXPECT_EQ(future.result(), i); });
                EXPECT_TRUE(text == "nothing" || text.starts_with("Cancelled")) << text;
                ++results;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(results, 1600);
}

}  // namespace
