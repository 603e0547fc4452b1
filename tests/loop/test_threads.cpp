// What crosses threads. Run by the thread sanitizer.

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

class LoopThread : public OnBackend {};
ON_EVERY_BACKEND(LoopThread);

constexpr int THREADS = 8;

/// Runs `work` in eight threads and waits for them when it goes.
class Eight {
  public:
    explicit Eight(std::function<void(int)> work) {
        for (int i = 0; i < THREADS; ++i) threads_.emplace_back(work, i);
    }
    ~Eight() { join(); }
    Eight(const Eight&) = delete;
    Eight& operator=(const Eight&) = delete;
    void join() {
        for (std::thread& thread : threads_) thread.join();
        threads_.clear();
    }

  private:
    std::vector<std::thread> threads_;
};

}  // namespace

TEST_P(LoopThread, eight_threads_post_and_every_call_arrives_in_each_ones_order) {
    constexpr int CALLS = 5'000;
    std::vector<int> next(THREADS, 0);  // touched by the loop only
    int arrived = 0;
    bool in_order = true;
    Eight threads([&](int thread) {
        for (int i = 0; i < CALLS; ++i) {
            loop().call_soon_threadsafe([&, thread, i] {
                in_order = in_order && next[static_cast<std::size_t>(thread)]++ == i;
                if (++arrived == THREADS * CALLS) loop().stop();
            });
        }
    });
    loop().run_forever();
    EXPECT_EQ(arrived, THREADS * CALLS);
    EXPECT_TRUE(in_order);
}

TEST_P(LoopThread, eight_threads_post_while_the_loop_runs_stops_and_closes) {
    long before = Alive::count();
    for (int round = 0; round < 20; ++round) {
        auto other = make_loop();
        std::atomic<int> accepted{0};
        std::atomic<int> refused{0};
        std::atomic<bool> closed{false};
        int called = 0;
        {
            Eight threads([&](int) {
                while (!closed.load() || refused.load() < THREADS) {
                    try {
                        other->call_soon_threadsafe([&called](const Alive&) { ++called; }, Alive());
                        ++accepted;
                    } catch (const RuntimeError& e) {
                        EXPECT_STREQ(e.what(), "Event loop is closed");
                        ++refused;
                        break;
                    }
                    if (accepted.load() % 64 == 0) std::this_thread::yield();
                }
            });
            for (int run = 0; run < 5; ++run) {
                other->call_later(100us, [&] { other->stop(); });
                other->run_forever();
            }
            other->close();
            closed = true;
        }
        EXPECT_EQ(refused.load(), THREADS);
        EXPECT_LE(called, accepted.load());
        other.reset();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST_P(LoopThread, handles_are_cancelled_by_other_threads) {
    constexpr int CALLS = 2'000;
    long before = Alive::count();
    std::atomic<int> posted{0};
    int called = 0;
    Eight threads([&](int) {
        for (int i = 0; i < CALLS; ++i) {
            Handle handle = loop().call_soon_threadsafe([&](const Alive&) { ++called; }, Alive());
            Handle copy = handle;
            copy.cancel();
            EXPECT_TRUE(handle.cancelled());
        }
        if (++posted == THREADS) loop().call_soon_threadsafe([&] { loop().stop(); });
    });
    loop().run_forever();
    threads.join();
    EXPECT_LE(called, THREADS * CALLS);
    run_one_turn(loop());
    EXPECT_EQ(Alive::count(), before);
}

TEST_P(LoopThread, a_handle_cancelled_before_its_turn_never_runs) {
    // The loop sleeps until the thread has cancelled.
    for (int round = 0; round < 200; ++round) {
        bool called = false;
        Handle handle = loop().call_soon_threadsafe([&] { called = true; });
        std::thread other([handle]() mutable { handle.cancel(); });
        other.join();
        run_one_turn(loop());
        EXPECT_FALSE(called);
    }
}

TEST_P(LoopThread, a_sleeping_loop_is_woken_every_time) {
    // A ping-pong of 100,000 calls: a single lost wake-up would stop it for ever.
    constexpr int ROUNDS = 100'000;
    auto mine = make_loop();
    auto others = make_loop();
    int left = ROUNDS;
    std::function<void()> ping;
    std::function<void()> pong;
    ping = [&] {  // in the other thread
        mine->call_soon_threadsafe(std::ref(pong));
    };
    pong = [&] {  // here
        if (--left > 0) {
            others->call_soon_threadsafe(std::ref(ping));
        } else {
            others->call_soon_threadsafe([&] { others->stop(); });
            mine->stop();
        }
    };
    std::thread other([&] { others->run_forever(); });
    mine->call_soon(std::ref(pong));
    bool late = false;
    TimerHandle limit = mine->call_later(100s, [&] {
        late = true;
        mine->stop();
        others->call_soon_threadsafe([&] { others->stop(); });
    });
    mine->run_forever();
    other.join();
    limit.cancel();
    EXPECT_FALSE(late) << left << " rounds were left";
    mine->close();
    others->close();
}

TEST_P(LoopThread, a_poster_that_waits_for_its_call_always_gets_it) {
    // The poster is as often faster as slower than the loop's way into sleep.
    constexpr int ROUNDS = 20'000;
    std::atomic<bool> done{false};
    std::atomic<int> seen{0};
    std::thread poster([&] {
        for (int i = 1; i <= ROUNDS; ++i) {
            loop().call_soon_threadsafe([&seen, i] { seen.store(i); });
            auto limit = std::chrono::steady_clock::now() + 60s;
            while (seen.load() < i && std::chrono::steady_clock::now() < limit) {
            }
            if (seen.load() < i) break;
        }
        done = true;
        loop().call_soon_threadsafe([&] { loop().stop(); });
    });
    loop().run_forever();
    poster.join();
    EXPECT_TRUE(done.load());
    EXPECT_EQ(seen.load(), ROUNDS);
}

TEST_P(LoopThread, loops_run_in_eight_threads_at_once) {
    std::atomic<int> sum{0};
    {
        Eight threads([&](int thread) {
            auto child = [](int i) -> Coro<int> {
                co_await sleep(std::chrono::microseconds(i % 7));
                co_return i;
            };
            auto main = [&]() -> Coro<int> {
                int total = 0;
                for (int round = 0; round < 20; ++round) {
                    std::vector<Coro<int>> children;
                    for (int i = 0; i < 20; ++i) children.push_back(child(thread));
                    auto values = co_await gather(std::move(children));
                    for (int value : values) total += value;
                }
                co_return total;
            };
            sum += run(main(), {.loop_factory = factory()});
        });
    }
    EXPECT_EQ(sum.load(), 400 * (0 + 1 + 2 + 3 + 4 + 5 + 6 + 7));
}

TEST_P(LoopThread, a_loop_moves_between_threads_with_its_timers_and_descriptors) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    int reads = 0;
    int timers = 0;
    loop().add_reader(ends[0], [&] {
        char byte;
        if (::read(ends[0], &byte, 1) == 1) ++reads;
    });
    auto child = []() -> Coro<int> {
        co_await sleep(6ms);
        co_return 5;
    };
    Task<int> task = loop().create_task(child());
    for (int i = 0; i < 6; ++i) {
        std::thread other([&] {
            ASSERT_EQ(::write(ends[1], "x", 1), 1);
            loop().call_later(2ms, [&] {
                ++timers;
                loop().stop();
            });
            loop().run_forever();
        });
        other.join();
    }
    EXPECT_EQ(reads, 6);
    EXPECT_EQ(timers, 6);
    EXPECT_EQ(loop().run_until_complete(task), 5);
    // And back here, woken from there.
    std::thread other([&] { loop().call_soon_threadsafe([&] { loop().stop(); }); });
    loop().run_forever();
    other.join();
    loop().remove_reader(ends[0]);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_P(LoopThread, futures_and_events_of_a_loop_are_ended_through_call_soon_threadsafe) {
    auto main = [&]() -> Coro<int> {
        EventLoop& running = get_running_loop();
        int sum = 0;
        for (int i = 0; i < 500; ++i) {
            Future<int> future = running.create_future<int>();
            // The thread never touches the future itself, only carries a pointer to it.
            Future<int>* carried = &future;
            std::thread other([&running, carried, i] {
                running.call_soon_threadsafe([carried, i] { carried->set_result(i); });
            });
            sum += co_await future;
            other.join();
        }
        co_return sum;
    };
    EXPECT_EQ(run(main(), {.loop_factory = factory()}), 500 * 499 / 2);
}

TEST_P(LoopThread, contexts_travel_with_calls_between_threads) {
    static ContextVar<std::string> var("var", "none");
    std::atomic<int> right{0};
    std::atomic<int> calls{0};
    Eight threads([&](int thread) {
        std::string own = "thread " + std::to_string(thread);
        var.set(own);
        for (int i = 0; i < 500; ++i) {
            loop().call_soon_threadsafe([&, own] {
                if (var.get() == own) ++right;
                if (++calls == THREADS * 500) loop().stop();
            });
        }
    });
    loop().run_forever();
    EXPECT_EQ(right.load(), THREADS * 500);
    EXPECT_EQ(var.get(), "none");
}

TEST_P(LoopThread, frames_freed_in_another_thread_than_they_were_made_in_are_freed) {
    long before = Alive::count();
    auto child = [](Alive) -> Coro<int> { co_return 1; };
    for (int round = 0; round < 20; ++round) {
        std::vector<Coro<int>> made;
        std::thread maker([&] {
            for (int i = 0; i < 200; ++i) made.push_back(child(Alive()));
        });
        maker.join();
        auto main = [&]() -> Coro<int> {
            int sum = 0;
            for (auto& coro : made) sum += co_await std::move(coro);
            co_return sum;
        };
        EXPECT_EQ(run(main(), {.loop_factory = factory()}), 200);
    }
    EXPECT_EQ(Alive::count(), before);
}
