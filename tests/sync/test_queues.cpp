#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

Coro<> getter(Queue<int>& queue, Log& log, std::string name) {
    auto outcome = co_await try_await(queue.get());
    log.push_back(name + " " +
                  (outcome.has_value() ? std::to_string(*outcome) : error_text(outcome.exception())));
}
Coro<> putter(Queue<int>& queue, Log& log, int item) {
    auto outcome = co_await try_await(queue.put(item));
    log.push_back("put " + std::to_string(item) + " " + error_text(outcome.exception()));
}

}  // namespace

TEST(Queue, is_first_in_first_out) {
    auto main = []() -> Coro<> {
        Queue<int> queue;
        EXPECT_TRUE(queue.empty());
        EXPECT_FALSE(queue.full());
        for (int i = 0; i < 3; ++i) co_await queue.put(i);
        EXPECT_EQ(queue.qsize(), 3u);
        for (int i = 0; i < 3; ++i) {
            int item = co_await queue.get();
            EXPECT_EQ(item, i);
        }
        EXPECT_TRUE(queue.empty());
    };
    run_virtual(main());
}

TEST(Queue, bounded_or_not) {
    auto main = []() -> Coro<> {
        Queue<int> bounded(2);
        EXPECT_EQ(bounded.maxsize(), 2);
        bounded.put_nowait(1);
        EXPECT_FALSE(bounded.full());
        bounded.put_nowait(2);
        EXPECT_TRUE(bounded.full());
        EXPECT_EQ(thrown_by([&] { bounded.put_nowait(3); }), "QueueFull: queue is full");
        EXPECT_EQ(bounded.qsize(), 2u);
        Queue<int> negative(-1);
        for (int i = 0; i < 100; ++i) negative.put_nowait(i);
        EXPECT_FALSE(negative.full());
        Queue<int> none;
        EXPECT_EQ(thrown_by([&] { return none.get_nowait(); }), "QueueEmpty: queue is empty");
        co_return;
    };
    run_virtual(main());
}

TEST(Queue, carries_move_only_items) {
    auto main = []() -> Coro<> {
        Queue<std::unique_ptr<int>> queue(1);
        co_await queue.put(std::make_unique<int>(1));
        auto fill = [](Queue<std::unique_ptr<int>>& q) -> Coro<> {
            co_await q.put(std::make_unique<int>(2));
        };
        Task<> task = create_task(fill(queue));
        co_await sleep(0s);
        auto first = co_await queue.get();
        auto second = co_await queue.get();
        EXPECT_EQ(*first, 1);
        EXPECT_EQ(*second, 2);
        co_await task;
    };
    run_virtual(main());
}

TEST(Queue, getters_and_putters_are_woken_in_order) {
    Log log;
    auto main = [&]() -> Coro<> {
        Queue<int> queue(1);
        std::vector<Task<>> tasks;
        for (std::string name : {"a", "b", "c"}) tasks.push_back(create_task(getter(queue, log, name)));
        co_await sleep(0s);
        for (int i = 1; i <= 3; ++i) {
            co_await queue.put(i);
            co_await turns(2);
        }
        EXPECT_EQ(log, (Log{"a 1", "b 2", "c 3"}));
        log.clear();
        queue.put_nowait(0);
        for (int i = 1; i <= 3; ++i) tasks.push_back(create_task(putter(queue, log, i)));
        co_await turns(2);
        EXPECT_EQ(log, Log());
        std::vector<int> items;
        for (int i = 0; i < 4; ++i) {
            int item = co_await queue.get();
            items.push_back(item);
            co_await turns(3);
        }
        EXPECT_EQ(items, (std::vector<int>{0, 1, 2, 3}));
        co_await gather(tasks);
    };
    run_virtual(main());
}

TEST(Queue, a_newcomer_may_take_the_item_and_the_woken_one_waits_again_at_the_back) {
    Log log;
    auto main = [&]() -> Coro<> {
        Queue<int> queue;
        Task<> first = create_task(getter(queue, log, "first"));
        Task<> second = create_task(getter(queue, log, "second"));
        co_await sleep(0s);
        queue.put_nowait(1);
        EXPECT_EQ(queue.get_nowait(), 1) << "before the woken one runs";
        co_await turns(2);
        EXPECT_EQ(log, Log());
        queue.put_nowait(2);
        co_await turns(2);
        EXPECT_EQ(log, (Log{"second 2"}));
        queue.put_nowait(3);
        co_await gather(first, second);
        EXPECT_EQ(log, (Log{"second 2", "first 3"}));
    };
    run_virtual(main());
}

TEST(Queue, join_waits_until_every_item_is_marked_done) {
    Log log;
    auto main = [&]() -> Coro<> {
        Queue<int> queue;
        co_await queue.join();
        queue.put_nowait(1);
        queue.put_nowait(2);
        auto joiner = [&](std::string name) -> Coro<> {
            co_await queue.join();
            log.push_back(name);
        };
        Task<> a = create_task(joiner("a"));
        Task<> b = create_task(joiner("b"));
        co_await sleep(0s);
        queue.get_nowait();
        queue.get_nowait();
        co_await turns(3);
        EXPECT_EQ(log, Log()) << "empty, but in work";
        queue.task_done();
        co_await turns(3);
        EXPECT_EQ(log, Log());
        queue.task_done();
        co_await gather(a, b);
        EXPECT_EQ(log, (Log{"a", "b"}));
        EXPECT_EQ(thrown_by([&] { queue.task_done(); }), "ValueError: task_done() called too many times");
    };
    run_virtual(main());
}

TEST(Queue, shut_down_gives_what_is_in_it_and_then_throws) {
    Log log;
    auto main = [&]() -> Coro<> {
        Queue<int> queue;
        queue.put_nowait(1);
        queue.shutdown();
        EXPECT_EQ(thrown_by([&] { queue.put_nowait(2); }), "QueueShutDown: queue is shut down");
        std::string error = co_await thrown_by_await(queue.put(2));
        EXPECT_EQ(error, "QueueShutDown: queue is shut down");
        int item = co_await queue.get();
        EXPECT_EQ(item, 1);
        error = co_await thrown_by_await(queue.get());
        EXPECT_EQ(error, "QueueShutDown: queue is shut down");
        EXPECT_EQ(thrown_by([&] { return queue.get_nowait(); }), "QueueShutDown: queue is shut down");
        queue.shutdown();
    };
    run_virtual(main());
}

TEST(Queue, shutting_down_wakes_all_who_wait) {
    Log log;
    auto main = [&]() -> Coro<> {
        Queue<int> empty;
        std::vector<Task<>> tasks;
        tasks.push_back(create_task(getter(empty, log, "a")));
        tasks.push_back(create_task(getter(empty, log, "b")));
        Queue<int> full(1);
        full.put_nowait(0);
        tasks.push_back(create_task(putter(full, log, 1)));
        tasks.push_back(create_task(putter(full, log, 2)));
        co_await sleep(0s);
        empty.shutdown();
        full.shutdown();
        co_await gather(tasks);
    };
    run_virtual(main());
    EXPECT_EQ(log,
              (Log{"a QueueShutDown: queue is shut down", "b QueueShutDown: queue is shut down",
                   "put 1 QueueShutDown: queue is shut down", "put 2 QueueShutDown: queue is shut down"}));
}

TEST(Queue, shut_down_at_once_drops_its_items_and_counts_them_done) {
    long before = Alive::count();
    auto main = [&]() -> Coro<> {
        Queue<Alive> queue;
        for (int i = 0; i < 3; ++i) queue.put_nowait(Alive());
        {
            [[maybe_unused]] Alive taken = queue.get_nowait();
        }
        auto joiner = [&]() -> Coro<> { co_await queue.join(); };
        Task<> join = create_task(joiner());
        co_await sleep(0s);
        queue.shutdown(true);
        EXPECT_EQ(queue.qsize(), 0u);
        EXPECT_EQ(Alive::count(), before);
        co_await turns(3);
        EXPECT_FALSE(join.done()) << "one item was taken and is not done";
        queue.task_done();
        co_await join;
        std::string error = thrown_by([&] { [[maybe_unused]] Alive none = queue.get_nowait(); });
        EXPECT_EQ(error, "QueueShutDown: queue is shut down");
    };
    run_virtual(main());
}

TEST(Queue, producers_and_consumers_lose_and_double_nothing_while_some_are_cancelled) {
    auto main = []() -> Coro<> {
        Queue<int> queue(3);
        std::vector<int> seen(2000, 0);
        auto produce = [&](int from) -> Coro<> {
            for (int i = from; i < from + 500; ++i) co_await queue.put(i);
        };
        auto consume = [&]() -> Coro<> {
            for (;;) {
                int item = co_await queue.get();
                ++seen[static_cast<std::size_t>(item)];
                queue.task_done();
                if (item % 7 == 0) co_await sleep(0s);
            }
        };
        std::vector<Task<>> consumers;
        std::vector<Task<>> producers;
        for (int i = 0; i < 10; ++i) consumers.push_back(create_task(consume()));
        for (int i = 0; i < 4; ++i) producers.push_back(create_task(produce(i * 500)));
        for (std::size_t i = 0; i < 9; ++i) {
            co_await turns(5);
            consumers[i].cancel();
        }
        co_await gather(producers);
        co_await queue.join();
        consumers.back().cancel();
        co_await wait(consumers);
        for (int count : seen) EXPECT_EQ(count, 1);
    };
    run_virtual(main());
}
