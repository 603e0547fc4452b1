#include "coil/graph.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <source_location>
#include <sstream>
#include <string>

#include "support/errors.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace support;

namespace {

std::uint32_t waiting_line = 0;

Coro<> waits() {
    waiting_line = std::source_location::current().line() + 1;
    co_await sleep(1h);
}

Coro<> calls() { co_await waits(); }

/// The names of the tasks on the way up, where each has one waiter at most.
std::string chain(const FutureCallGraph& graph) {
    std::string names;
    for (const FutureCallGraph* at = &graph; at;
         at = at->awaited_by.empty() ? nullptr : &at->awaited_by.front()) {
        EXPECT_LE(at->awaited_by.size(), 1u);
        auto& state = at->future.state();
        names += (names.empty() ? "" : " < ") +
                 (state.is_task() ? static_cast<detail::TaskBase&>(state).get_name() : "future");
    }
    return names;
}

/// What is above a sleeping child that `parent` makes and waits for.
template <class Parent>
std::string chain_above_child(Parent parent) {
    std::string names;
    auto main = [&]() -> Coro<> {
        Task<> child = create_task(calls(), {.name = "child"});
        Task<> waiter = create_task(parent(child), {.name = "parent"});
        co_await sleep(1s);
        names = chain(*capture_call_graph(child));
        child.cancel();
        waiter.cancel();
        co_await try_await(waiter);
    };
    run_virtual(main());
    return names;
}

}  // namespace

TEST(CallGraph, has_the_stack_innermost_first_and_what_is_waited_for) {
    auto main = []() -> Coro<> {
        Task<> task = create_task(calls(), {.name = "deep"});
        co_await sleep(1s);
        auto graph = capture_call_graph(task);
        EXPECT_TRUE(graph.has_value());
        EXPECT_EQ(graph->future, Future<>(task));
        EXPECT_EQ(graph->waits_for, "sleep(3600s), due in 3599.000s");
        EXPECT_TRUE(graph->awaited_by.empty());
        EXPECT_EQ(graph->call_stack.size(), 2u);
        if (graph->call_stack.size() == 2) {
            EXPECT_EQ(graph->call_stack[0].frame.line, waiting_line);
            EXPECT_TRUE(contains(graph->call_stack[0].frame.function, "waits"));
            EXPECT_TRUE(contains(graph->call_stack[1].frame.function, "calls"));
        }
        std::string text = format_call_graph(task);
        EXPECT_TRUE(text.starts_with("* Task(name='deep', id=0x")) << text;
        EXPECT_TRUE(contains(text, "\n  + Call stack:\n  |   File '")) << text;
        EXPECT_TRUE(contains(text, "', line " + std::to_string(waiting_line) + ", in async ")) << text;
        EXPECT_TRUE(contains(text, "\n  + Waiting for: sleep(3600s), due in 3599.000s\n")) << text;
        EXPECT_FALSE(contains(text, "Awaited by")) << text;
        std::ostringstream out;
        print_call_graph(task, out);
        EXPECT_EQ(out.str(), text);
    };
    run_virtual(main());
}

TEST(CallGraph, goes_up_through_tasks) {
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> { co_await child; }), "child < parent");
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> {
                  auto middle = [](Task<> inner) -> Coro<> { co_await inner; };
                  co_await create_task(middle(child), {.name = "middle"});
              }),
              "child < middle < parent");
}

TEST(CallGraph, goes_up_through_combinators) {
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> { co_await gather(child, sleep(1h)); }),
              "child < future < parent");
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> {
                  std::vector<Task<>> all{child};
                  co_await gather(all);
              }),
              "child < future < parent");
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> { co_await shield(child); }),
              "child < future < parent");
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> {
                  std::vector<Task<>> all{child};
                  co_await wait(all);
              }),
              "child < parent");
    EXPECT_EQ(chain_above_child([](Task<> child) -> Coro<> { co_await wait_for(child, 1h); }),
              "child < parent");
}

TEST(CallGraph, goes_up_through_waits_of_the_program_s_own) {
    auto main = []() -> Coro<> {
        Task<> child = create_task(calls(), {.name = "child"});
        Task<> task = create_task(sleep(1h), {.name = "task"});
        Future<int> future = get_running_loop().create_future<int>();
        EXPECT_EQ(chain(*capture_call_graph(child)), "child");
        future_add_to_awaited_by(child, task);
        future_add_to_awaited_by(child, task);
        EXPECT_EQ(chain(*capture_call_graph(child)), "child < task");
        EXPECT_EQ(capture_call_graph(child)->awaited_by.size(), 1u);
        future_discard_from_awaited_by(child, task);
        future_discard_from_awaited_by(child, task);
        EXPECT_EQ(chain(*capture_call_graph(child)), "child");

        // Through a future that a task waits for, until it is done.
        future_add_to_awaited_by(child, future);
        auto wait_for_it = [](Future<int> it) -> Coro<> { co_await it; };
        Task<> waiter = create_task(wait_for_it(future), {.name = "waiter"});
        co_await sleep(1s);
        EXPECT_EQ(chain(*capture_call_graph(child)), "child < future < waiter");
        future.set_result(1);
        co_await waiter;
        EXPECT_EQ(chain(*capture_call_graph(child)), "child");
        future_add_to_awaited_by(child, future);  // done: it waits for nothing
        EXPECT_EQ(chain(*capture_call_graph(child)), "child");
    };
    run_virtual(main());
}

TEST(CallGraph, goes_up_through_a_task_group) {
    std::string names;
    auto main = [&]() -> Coro<> {
        Task<> child;
        auto grouped = [&]() -> Coro<> {
            co_await async_with(TaskGroup(), [&](TaskGroup& group) -> Coro<> {
                child = group.create_task(calls(), {.name = "child"});
                co_return;
            });
        };
        Task<> parent = create_task(grouped(), {.name = "parent"});
        co_await sleep(1s);
        names = chain(*capture_call_graph(child));
        parent.cancel();
        co_await try_await(parent);
    };
    run_virtual(main());
    EXPECT_EQ(names, "child < parent");
}

TEST(CallGraph, goes_up_to_the_group_whose_block_still_runs) {
    auto main = []() -> Coro<> {
        current_task().set_name("main");
        auto grouped = []() -> Coro<> {
            co_await async_with(TaskGroup(), [](TaskGroup& group) -> Coro<> {
                Task<> child = group.create_task(calls(), {.name = "child"});
                EXPECT_EQ(chain(*capture_call_graph(child)), "child < parent < main");
                co_await sleep(1s);
                EXPECT_EQ(chain(*capture_call_graph(child)), "child < parent < main");
                // Awaited by its parent in both ways: shown once.
                auto look = [](Task<> at) -> Coro<> {
                    EXPECT_EQ(chain(*capture_call_graph(at)), "child < parent < main");
                    at.cancel();
                    co_return;
                };
                Task<> looks = create_task(look(child));
                co_await try_await(child);
                EXPECT_TRUE(looks.done());
                EXPECT_EQ(chain(*capture_call_graph(child)), "child");
            });
        };
        co_await create_task(grouped(), {.name = "parent"});
    };
    run_virtual(main());
}

TEST(CallGraph, shows_all_who_wait) {
    auto main = []() -> Coro<> {
        auto future = get_running_loop().create_future();
        auto waiter = [](Future<> awaited) -> Coro<> { co_await awaited; };
        auto both = gather(create_task(waiter(future), {.name = "one"}),
                           create_task(waiter(future), {.name = "two"}));
        co_await sleep(0s);
        auto graph = capture_call_graph(future);
        EXPECT_TRUE(graph->call_stack.empty());
        EXPECT_EQ(graph->awaited_by.size(), 2u);
        std::string text = format_call_graph(future);
        EXPECT_TRUE(text.starts_with("* Future(id=0x")) << text;
        EXPECT_TRUE(contains(text, "\n    * Task(name='one', id=0x")) << text;
        EXPECT_TRUE(contains(text, "\n    * Task(name='two', id=0x")) << text;
        EXPECT_TRUE(contains(text, "\n      + Waiting for: Future\n")) << text;
        future.set_result();
        co_await both;
    };
    run_virtual(main());
}

TEST(CallGraph, of_tasks_that_wait_in_a_circle_ends) {
    auto main = []() -> Coro<> {
        Task<> first;
        Task<> second;
        auto waiter = [](Task<>& other) -> Coro<> { co_await shield(other); };
        first = create_task(waiter(second), {.name = "first"});
        second = create_task(waiter(first), {.name = "second"});
        co_await sleep(0s);
        EXPECT_EQ(chain(*capture_call_graph(first)), "first < future < second < future < first");
        first.cancel();
        co_await try_await(second);
    };
    run_virtual(main());
}

TEST(CallGraph, shows_once_what_many_ways_lead_to) {
    auto main = []() -> Coro<> {
        // Each waits for the one below it twice: 2^40 ways from the bottom to the top.
        auto bottom = get_running_loop().create_future();
        auto waiter = [](Future<> below) -> Coro<> { co_await gather(shield(below), shield(below)); };
        Future<> top = bottom;
        for (int i = 0; i < 40; ++i) top = create_task(waiter(top));
        co_await sleep(0s);
        co_await sleep(0s);
        std::string text = format_call_graph(bottom);
        EXPECT_LT(std::ranges::count(text, '*'), 1000) << text;
        bottom.set_result();
        co_await top;
    };
    run_virtual(main());
}

TEST(CallGraph, of_a_long_chain_is_cut) {
    auto main = []() -> Coro<> {
        auto bottom = get_running_loop().create_future();
        auto waiter = [](Future<> below) -> Coro<> { co_await below; };
        Future<> top = bottom;
        for (int i = 0; i < 20'000; ++i) top = create_task(waiter(top));
        co_await sleep(0s);
        auto graph = capture_call_graph(bottom);
        int levels = 0;
        for (const FutureCallGraph* at = &*graph; !at->awaited_by.empty(); at = &at->awaited_by.front())
            ++levels;
        EXPECT_EQ(levels, 999);
        bottom.set_result();
        co_await top;
    };
    run_virtual(main());
}

TEST(CallGraph, of_the_current_task_has_the_coroutine_that_runs) {
    auto inner = []() -> Coro<std::string> {
        co_await sleep(0s);
        co_return format_call_graph();
    };
    auto outer = [&]() -> Coro<std::string> {
        std::string text = co_await inner();
        EXPECT_EQ(capture_call_graph()->call_stack.size(), 1u);  // that one is over
        co_return text;
    };
    std::string text = run_virtual(outer());
    EXPECT_EQ(std::ranges::count(text, '|'), 2) << text;
    EXPECT_FALSE(contains(text, "Waiting for")) << text;
}

TEST(CallGraph, is_cut_at_either_end) {
    auto main = []() -> Coro<> {
        Task<> task = create_task(calls());
        co_await sleep(1s);
        auto innermost = capture_call_graph(task, {.limit = 1});
        EXPECT_EQ(innermost->call_stack.size(), 1u);
        EXPECT_TRUE(contains(innermost->call_stack.at(0).frame.function, "waits"));
        auto outermost = capture_call_graph(task, {.limit = -1});
        EXPECT_EQ(outermost->call_stack.size(), 1u);
        EXPECT_TRUE(contains(outermost->call_stack.at(0).frame.function, "calls"));
        EXPECT_EQ(capture_call_graph(task, {.limit = 7})->call_stack.size(), 2u);
        EXPECT_EQ(capture_call_graph(task, {.limit = -7})->call_stack.size(), 2u);
        EXPECT_EQ(capture_call_graph(task, {.limit = 0})->call_stack.size(), 0u);
    };
    run_virtual(main());
}

TEST(CallGraph, needs_a_task_or_a_future) {
    EXPECT_EQ(thrown_by([] { capture_call_graph(); }), "RuntimeError: no running event loop");
    auto main = []() -> Coro<> {
        auto future = get_running_loop().create_future();
        get_running_loop().call_soon([future]() mutable {
            EXPECT_FALSE(capture_call_graph().has_value());
            EXPECT_EQ(format_call_graph(), "");
            future.set_result();
        });
        co_await future;
        Future<> none;
        EXPECT_THROW(capture_call_graph(none), RuntimeError);
    };
    run_virtual(main());
}

TEST(CallGraph, of_many_tasks_is_quick_and_right) {
    auto main = []() -> Coro<> {
        constexpr int MANY = 10'000;
        auto future = get_running_loop().create_future();
        auto waiter = [](Future<> awaited) -> Coro<> { co_await awaited; };
        std::vector<Task<>> tasks;
        for (int i = 0; i < MANY; ++i) tasks.push_back(create_task(waiter(future)));
        co_await sleep(0s);
        EXPECT_EQ(capture_call_graph(future)->awaited_by.size(), std::size_t{MANY});
        future.set_result();
        co_await gather(tasks);
    };
    run_virtual(main());
}
