#include "coil/detail/timer_heap.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "coil/detail/runnable.hpp"

using namespace coil;
using namespace coil::detail;

namespace {

struct Node : Timer {
    Node() : Timer([](Runnable&, How) {}) {}
};

TimePoint at(long nanoseconds) { return TimePoint(Duration(nanoseconds)); }

/// What is due, in order.
std::vector<Runnable*> due(TimerHeap& heap, TimePoint now) {
    ReadyQueue queue;
    heap.pop_due(now, queue);
    std::vector<Runnable*> timers;
    while (!queue.empty()) timers.push_back(&queue.pop());
    return timers;
}

}  // namespace

TEST(TimerHeap, gives_equal_deadlines_in_order_of_creation) {
    TimerHeap heap;
    std::vector<std::unique_ptr<Node>> nodes;
    std::vector<Runnable*> expected;
    for (int i = 0; i < 100; ++i) {
        nodes.push_back(std::make_unique<Node>());
        expected.push_back(nodes.back().get());
        heap.add(at(5), *nodes.back());
    }
    EXPECT_TRUE(due(heap, at(4)).empty());
    EXPECT_EQ(due(heap, at(5)), expected);
    EXPECT_TRUE(heap.empty());
    EXPECT_TRUE(due(heap, at(100)).empty());
    EXPECT_EQ(heap.pop_any(), nullptr);
}

TEST(TimerHeap, removes_any_node_and_knows_what_is_scheduled) {
    TimerHeap heap;
    Node a;
    Node b;
    Node c;
    EXPECT_FALSE(a.scheduled());
    heap.add(at(1), a);
    heap.add(at(2), b);
    heap.add(at(3), c);
    heap.remove(b);
    EXPECT_FALSE(b.scheduled());
    EXPECT_TRUE(a.scheduled());
    EXPECT_EQ(heap.next(), at(1));
    heap.remove(a);
    EXPECT_EQ(heap.next(), at(3)) << "the first deadline is never one that was removed";
    heap.add(at(4), b);
    EXPECT_EQ(due(heap, at(4)), (std::vector<Runnable*>{&c, &b}));
    EXPECT_FALSE(b.scheduled());
    EXPECT_TRUE(heap.empty());
}

TEST(TimerHeap, gives_out_everything_for_a_loop_that_closes) {
    TimerHeap heap;
    std::vector<std::unique_ptr<Node>> nodes;
    for (int i = 0; i < 100; ++i) {
        nodes.push_back(std::make_unique<Node>());
        heap.add(at(i * 7919 % 101), *nodes.back());
    }
    for (std::size_t i = 0; i < 100; i += 3) heap.remove(*nodes[i]);
    int count = 0;
    while (Timer* timer = heap.pop_any()) {
        EXPECT_FALSE(timer->scheduled());
        ++count;
    }
    EXPECT_EQ(count, 66);
    EXPECT_TRUE(heap.empty());
}

TEST(TimerHeap, does_what_an_ordered_map_does) {
    std::random_device device;
    unsigned seed = device();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    constexpr std::size_t NODES = 500;
    std::vector<std::unique_ptr<Node>> nodes;
    for (std::size_t i = 0; i < NODES; ++i) nodes.push_back(std::make_unique<Node>());
    TimerHeap heap;
    std::multimap<TimePoint, Runnable*> model;  // equal keys keep their order of insertion
    TimePoint now = at(0);
    for (int step = 0; step < 100'000; ++step) {
        // Phases of mostly adding, mostly removing, and of many that are due at once.
        unsigned adding = (step / 1000) % 3 == 0 ? 8 : 4;
        Node& node = *nodes[random() % NODES];
        auto choice = random() % 12;
        if (choice < adding) {
            if (!node.scheduled()) {
                TimePoint when = now + Duration(static_cast<long>(random() % 64));
                heap.add(when, node);
                model.emplace(when, &node);
            }
        } else if (choice < 11) {
            if (node.scheduled()) {
                heap.remove(node);
                for (auto it = model.begin(); it != model.end(); ++it) {
                    if (it->second == &node) {
                        model.erase(it);
                        break;
                    }
                }
            }
        } else {
            now += Duration(static_cast<long>(random() % ((step / 1000) % 5 == 0 ? 64 : 6)));
            std::vector<Runnable*> expected;
            while (!model.empty() && model.begin()->first <= now) {
                expected.push_back(model.begin()->second);
                model.erase(model.begin());
            }
            ASSERT_EQ(due(heap, now), expected) << "step " << step;
        }
        ASSERT_EQ(heap.empty(), model.empty()) << "step " << step;
        if (!model.empty()) {
            ASSERT_EQ(heap.next(), model.begin()->first) << "step " << step;
        }
    }
}
