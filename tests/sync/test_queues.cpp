#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
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

namespace {

/// A number and when it came; only the number is compared.
struct Ranked {
    int rank;
    int number;
    friend bool operator<(const Ranked& a, const Ranked& b) { return a.rank < b.rank; }
};

/// Throws where it is told to: at the n-th move or comparison from now.
struct Touchy {
    explicit Touchy(int number) : value(number) {}
    Touchy(Touchy&& other) : value(other.value) {
        count_down(moves_left);
        other.value = -1;
    }
    Touchy& operator=(Touchy&& other) {
        count_down(moves_left);
        value = std::exchange(other.value, -1);
        return *this;
    }
    friend bool operator<(const Touchy& a, const Touchy& b) {
        count_down(comparisons_left);
        return a.value < b.value;
    }

    int value;  // -1 once moved from
    static inline int moves_left = -1;
    static inline int comparisons_left = -1;

  private:
    static void count_down(int& left) {
        if (left < 0) return;
        if (left-- == 0) throw ValueError("touchy");
    }
};

template <class Q>
std::vector<int> drain(Q& queue) {
    std::vector<int> items;
    while (!queue.empty()) {
        auto item = queue.get_nowait();
        if constexpr (requires { item.value; }) {
            items.push_back(item.value);
        } else if constexpr (requires { *item; }) {
            items.push_back(*item);
        } else {
            items.push_back(item);
        }
    }
    return items;
}

}  // namespace

// ---- PriorityQueue

TEST(PriorityQueue, gives_the_smallest_first) {
    auto main = []() -> Coro<> {
        PriorityQueue<int> queue;
        for (int i : {3, 1, 4, 1, 5, 9, 2, 6}) co_await queue.put(i);
        EXPECT_EQ(queue.qsize(), 8u);
        int first = co_await queue.get();
        EXPECT_EQ(first, 1);
        queue.put_nowait(0);
        EXPECT_EQ(drain(queue), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 9}));
        EXPECT_EQ(thrown_by([&] { return queue.get_nowait(); }), "QueueEmpty: queue is empty");
    };
    run_virtual(main());
}

TEST(PriorityQueue, gives_equal_items_in_the_order_of_heapq) {
    // Digits put an item of that rank, a minus takes one; the numbers of those taken are what CPython's heapq gave.
    const std::string program =
        "11303--331--30-00233310-232332012012--3-30-0-02200-12121330213202-1-32200222--23-112--0-211-13-"
        "0112023-23-"
        "01-31-212---1300--3-02301-0-103---3-01--0032--------------------------------------------------------"
        "-----"
        "---------";
    const std::vector<int> expected{
        3,  0,  1,  7,   9,  10, 11, 17,  24, 27, 32, 33, 34, 38,  37,  46,  51,  57, 58,  67,  39,  41,
        73, 77, 82, 16,  64, 83, 85, 91,  92, 87, 94, 97, 99, 101, 69,  89,  104, 74, 106, 107, 70,  71,
        65, 25, 28, 100, 75, 53, 48, 105, 43, 98, 18, 88, 86, 78,  26,  42,  20,  76, 52,  36,  35,  12,
        68, 29, 59, 60,  62, 80, 66, 61,  55, 56, 40, 50, 23, 47,  109, 95,  90,  19, 6,   84,  103, 15,
        72, 31, 21, 93,  63, 49, 54, 30,  2,  79, 44, 96, 22, 108, 13,  102, 5,   81, 45,  14,  8,   4};
    PriorityQueue<Ranked> queue;
    std::vector<int> taken;
    int number = 0;
    for (char operation : program) {
        if (operation == '-') {
            taken.push_back(queue.get_nowait().number);
        } else {
            queue.put_nowait({operation - '0', number++});
        }
    }
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(taken, expected);
}

TEST(PriorityQueue, compares_as_it_is_told) {
    PriorityQueue<int, std::greater<>> largest;
    for (int i : {3, 1, 4, 1, 5}) largest.put_nowait(i);
    EXPECT_EQ(drain(largest), (std::vector<int>{5, 4, 3, 1, 1}));
    int modulus = 10;
    auto by_last_digit = [&modulus](int a, int b) { return a % modulus < b % modulus; };
    PriorityQueue<int, decltype(by_last_digit)> digits(2, by_last_digit);
    digits.put_nowait(19);
    digits.put_nowait(21);
    EXPECT_TRUE(digits.full());
    EXPECT_EQ(drain(digits), (std::vector<int>{21, 19}));
}

TEST(PriorityQueue, a_getter_that_waits_takes_the_smallest_there_is_when_it_runs) {
    Log log;
    auto main = [&]() -> Coro<> {
        PriorityQueue<int> queue;
        auto waits = [&](std::string name) -> Coro<> {
            int item = co_await queue.get();
            log.push_back(name + " " + std::to_string(item));
        };
        Task<> a = create_task(waits("a"));
        Task<> b = create_task(waits("b"));
        co_await sleep(0s);
        queue.put_nowait(20);
        queue.put_nowait(10);
        co_await gather(a, b);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"a 10", "b 20"}));
}

TEST(PriorityQueue, with_a_comparison_that_throws_is_as_it_was) {
    PriorityQueue<Touchy> queue;
    std::vector<int> expected;
    for (int i = 0; i < 20; ++i) {
        queue.put_nowait(Touchy((i * 7) % 20 + 1));
        expected.push_back(i + 1);
    }
    int thrown = 0;
    for (int after = 0; after < 10; ++after) {
        Touchy::comparisons_left = after;
        thrown += thrown_by([&] { queue.put_nowait(Touchy(0)); }) == "ValueError: touchy";
        bool put = Touchy::comparisons_left >= 0;
        Touchy::comparisons_left = -1;
        EXPECT_EQ(queue.qsize(), put ? 21u : 20u);
        if (put) {
            EXPECT_EQ(queue.get_nowait().value, 0);
        }
        Touchy::comparisons_left = after;
        std::string error = thrown_by([&] { queue.put_nowait(Touchy(queue.get_nowait().value)); });
        thrown += error == "ValueError: touchy";
        Touchy::comparisons_left = -1;
        if (queue.qsize() == 19u) {  // taken, and not put again: the smallest
            queue.put_nowait(Touchy(1));
        }
        EXPECT_EQ(queue.qsize(), 20u);
    }
    EXPECT_GT(thrown, 6);
    EXPECT_EQ(drain(queue), expected);
}

// ---- LifoQueue

TEST(LifoQueue, gives_the_last_first) {
    auto main = []() -> Coro<> {
        LifoQueue<int> queue;
        for (int i = 0; i < 20; ++i) co_await queue.put(i);
        int last = co_await queue.get();
        EXPECT_EQ(last, 19);
        queue.put_nowait(40);
        EXPECT_EQ(queue.get_nowait(), 40);
        EXPECT_EQ(queue.get_nowait(), 18);
        EXPECT_EQ(drain(queue).back(), 0);
        EXPECT_EQ(thrown_by([&] { return queue.get_nowait(); }), "QueueEmpty: queue is empty");
    };
    run_virtual(main());
}

// ---- every kind

template <class Q>
class QueueKinds : public ::testing::Test {};
using Kinds = ::testing::Types<Queue<int>, PriorityQueue<int>, LifoQueue<int>>;
struct KindNames {
    template <class Q>
    static std::string GetName(int i) {
        return std::vector<std::string>{"fifo", "priority", "lifo"}.at(static_cast<std::size_t>(i));
    }
};
TYPED_TEST_SUITE(QueueKinds, Kinds, KindNames);

TYPED_TEST(QueueKinds, with_a_bound_makes_putters_wait) {
    auto main = []() -> Coro<> {
        TypeParam queue(2);
        EXPECT_EQ(queue.maxsize(), 2);
        queue.put_nowait(1);
        EXPECT_FALSE(queue.full());
        queue.put_nowait(2);
        EXPECT_TRUE(queue.full());
        EXPECT_EQ(thrown_by([&] { queue.put_nowait(3); }), "QueueFull: queue is full");
        auto puts = [](TypeParam& q) -> Coro<> { co_await q.put(3); };
        Task<> task = create_task(puts(queue));
        co_await turns(3);
        EXPECT_FALSE(task.done());
        std::vector<int> items{queue.get_nowait()};
        co_await task;
        EXPECT_TRUE(queue.full());
        for (int item : drain(queue)) items.push_back(item);
        std::ranges::sort(items);
        EXPECT_EQ(items, (std::vector<int>{1, 2, 3}));
        TypeParam negative(-1);
        for (int i = 0; i < 100; ++i) negative.put_nowait(i);
        EXPECT_FALSE(negative.full());
    };
    run_virtual(main());
}

TYPED_TEST(QueueKinds, shut_down_gives_what_is_in_it_and_then_throws) {
    const std::string shut = "QueueShutDown: queue is shut down";
    auto main = [&]() -> Coro<> {
        TypeParam queue(2);
        queue.put_nowait(1);
        queue.put_nowait(2);
        auto puts = [](TypeParam& q) -> Coro<std::string> {
            std::string error = co_await thrown_by_await(q.put(3));
            co_return error;
        };
        Task<std::string> putter = create_task(puts(queue));
        co_await sleep(0s);
        EXPECT_FALSE(queue.is_shut_down());
        queue.shutdown();
        EXPECT_TRUE(queue.is_shut_down());
        std::string error = co_await putter;
        EXPECT_EQ(error, shut);
        EXPECT_EQ(thrown_by([&] { queue.put_nowait(3); }), shut);
        EXPECT_EQ(drain(queue).size(), 2u);
        error = co_await thrown_by_await(queue.get());
        EXPECT_EQ(error, shut);
        queue.task_done();
        queue.task_done();
        co_await queue.join();
    };
    run_virtual(main());
}

TYPED_TEST(QueueKinds, shut_down_at_once_drops_its_items_and_wakes_all) {
    const std::string shut = "QueueShutDown: queue is shut down";
    auto main = [&]() -> Coro<> {
        TypeParam queue;
        auto gets = [](TypeParam& q) -> Coro<std::string> {
            std::string error = co_await thrown_by_await(q.get());
            co_return error;
        };
        for (int i = 0; i < 10; ++i) queue.put_nowait(i);
        queue.shutdown(true);
        EXPECT_TRUE(queue.empty());
        co_await queue.join();
        TypeParam empty;
        Task<std::string> first = create_task(gets(empty));
        Task<std::string> second = create_task(gets(empty));
        co_await sleep(0s);
        empty.shutdown(true);
        auto [a, b] = co_await gather(first, second);
        EXPECT_EQ(a, shut);
        EXPECT_EQ(b, shut);
    };
    run_virtual(main());
}

TEST(Queues, of_every_kind_carry_move_only_items) {
    using Item = std::unique_ptr<int>;
    auto by_value = [](const Item& a, const Item& b) { return *a < *b; };
    auto main = [&]() -> Coro<> {
        Queue<Item> fifo(3);
        LifoQueue<Item> lifo(3);
        PriorityQueue<Item, decltype(by_value)> priority(3, by_value);
        auto through = [](auto& queue) -> Coro<std::vector<int>> {
            auto puts = [](auto& q) -> Coro<> {
                for (int i : {4, 2, 5, 1}) co_await q.put(std::make_unique<int>(i));
            };
            Task<> task = create_task(puts(queue));
            co_await sleep(0s);
            std::vector<int> items;
            for (int i = 0; i < 4; ++i) {
                Item item = co_await queue.get();
                items.push_back(*item);
                if (i == 0) co_await task;
            }
            co_return items;
        };
        std::vector<int> items = co_await through(fifo);
        EXPECT_EQ(items, (std::vector<int>{4, 2, 5, 1}));
        items = co_await through(lifo);
        EXPECT_EQ(items, (std::vector<int>{5, 1, 2, 4}));
        items = co_await through(priority);
        EXPECT_EQ(items, (std::vector<int>{2, 1, 4, 5}));
    };
    run_virtual(main());
}

// ---- storage

TEST(Queue, grows_at_every_place_of_its_ring_and_wraps_around) {
    // Begins at every place of a ring of eight, and grows three times from there.
    for (int skip = 0; skip < 8; ++skip) {
        Queue<MoveOnly> queue;
        for (int i = 0; i < skip; ++i) {
            queue.put_nowait(MoveOnly(i));
            EXPECT_EQ(queue.get_nowait().value, i);
        }
        std::vector<int> expected;
        for (int i = 0; i < 40; ++i) {
            queue.put_nowait(MoveOnly(i));
            expected.push_back(i);
        }
        EXPECT_EQ(drain(queue), expected);
        // Once around without growing.
        int next = 0;
        for (int i = 0; i < 60; ++i) queue.put_nowait(MoveOnly(i));
        for (int i = 60; i < 300; ++i) {
            EXPECT_EQ(queue.get_nowait().value, next++);
            queue.put_nowait(MoveOnly(i));
        }
        EXPECT_EQ(queue.qsize(), 60u);
        EXPECT_EQ(drain(queue).back(), 299);
    }
}

TEST(Queue, destroys_what_is_left_in_it_also_around_the_end_of_its_ring) {
    long before = Alive::count();
    {
        Queue<Alive> queue;
        for (int i = 0; i < 6; ++i) queue.put_nowait(Alive());
        for (int i = 0; i < 5; ++i) {
            [[maybe_unused]] Alive taken = queue.get_nowait();
            queue.put_nowait(Alive());
        }
        EXPECT_EQ(Alive::count(), before + 6);
        for (int i = 0; i < 10; ++i) queue.put_nowait(Alive());
        EXPECT_EQ(Alive::count(), before + 16);
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Queues, an_item_whose_move_throws_leaves_the_queue_whole) {
    auto one_kind = [](auto make, std::vector<int> expected) {
        // The first move is that of the argument, the second puts it there or takes it out.
        auto queue = make();
        for (int i : {1, 2, 3}) queue->put_nowait(Touchy(i));
        Touchy::moves_left = 0;
        EXPECT_EQ(thrown_by([&] { queue->put_nowait(Touchy(0)); }), "ValueError: touchy");
        Touchy::moves_left = 0;
        EXPECT_EQ(thrown_by([&] { return queue->get_nowait().value; }), "ValueError: touchy");
        Touchy::moves_left = -1;
        EXPECT_EQ(queue->qsize(), 3u);
        EXPECT_EQ(drain(*queue), expected);
        EXPECT_TRUE(queue->empty());
        queue->put_nowait(Touchy(5));
        EXPECT_EQ(queue->get_nowait().value, 5);
    };
    one_kind([] { return std::make_unique<Queue<Touchy>>(); }, {1, 2, 3});
    one_kind([] { return std::make_unique<LifoQueue<Touchy>>(); }, {3, 2, 1});
}

TEST(Queues, an_awaited_put_that_throws_takes_no_slot_and_wakes_nobody) {
    auto main = []() -> Coro<> {
        PriorityQueue<Touchy> queue(3);
        queue.put_nowait(Touchy(2));
        Touchy::comparisons_left = 0;
        std::string error = co_await thrown_by_await(queue.put(Touchy(1)));
        Touchy::comparisons_left = -1;
        EXPECT_EQ(error, "ValueError: touchy");
        EXPECT_EQ(queue.qsize(), 1u);
        Touchy item = co_await queue.get();
        EXPECT_EQ(item.value, 2);
        queue.task_done();
        co_await queue.join();
    };
    run_virtual(main());
}
