#include <gtest/gtest.h>

#include <source_location>
#include <sstream>
#include <string>

#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace support;

namespace {

// Each keeps the line of its await.
std::uint32_t innermost_line = 0;
std::uint32_t middle_line = 0;

Coro<> innermost_function() {
    innermost_line = std::source_location::current().line() + 1;
    co_await sleep(1h);
}

Coro<int> middle_function() {
    middle_line = std::source_location::current().line() + 1;
    co_await innermost_function();
    co_return 1;
}

Coro<> outermost_function() { co_await middle_function(); }

}  // namespace

TEST(Stack, of_a_waiting_task_names_functions_and_lines_outermost_first) {
    auto main = []() -> Coro<> {
        Task<> task = create_task(outermost_function(), {.name = "deep"});
        co_await sleep(1s);
        auto stack = task.get_stack();
        EXPECT_EQ(stack.size(), 3u);
        if (stack.size() == 3) {
            EXPECT_TRUE(contains(stack[0].function, "outermost_function")) << stack[0].function;
            EXPECT_TRUE(contains(stack[1].function, "middle_function")) << stack[1].function;
            EXPECT_TRUE(contains(stack[2].function, "innermost_function")) << stack[2].function;
            EXPECT_EQ(stack[1].line, middle_line);
            EXPECT_EQ(stack[2].line, innermost_line);
            EXPECT_TRUE(contains(stack[2].file, "test_stacks.cpp"));
        }
        std::ostringstream out;
        task.print_stack(out);
        EXPECT_TRUE(contains(out.str(), "Stack for <Task 'deep' waiting for sleep(3600s), due in "))
            << out.str();
        EXPECT_TRUE(contains(out.str(), "test_stacks.cpp:" + std::to_string(innermost_line))) << out.str();
        EXPECT_LT(out.str().find("outermost_function"), out.str().find("innermost_function"));
    };
    run_virtual(main());
}

TEST(Stack, of_a_task_that_has_not_begun_is_its_function) {
    auto main = []() -> Coro<> {
        Task<> task = create_task(outermost_function());
        auto stack = task.get_stack();
        EXPECT_EQ(stack.size(), 1u);
        if (!stack.empty()) {
            EXPECT_TRUE(contains(stack[0].function, "outermost_function"));
        }
        co_return;
    };
    run_virtual(main());
}

TEST(Stack, of_a_done_task_is_empty) {
    auto main = []() -> Coro<> {
        Task<> task = create_task(outermost_function());
        co_await sleep(1s);
        task.cancel();
        co_await try_await(task);
        EXPECT_TRUE(task.get_stack().empty());
        std::ostringstream out;
        task.print_stack(out);
        EXPECT_TRUE(contains(out.str(), "No stack for <Task '")) << out.str();
    };
    run_virtual(main());
}

TEST(Stack, goes_through_try_await_async_with_and_generators) {
    auto generator = []() -> AsyncGenerator<int> {
        co_await innermost_function();
        co_yield 1;
    };
    auto outer = [&]() -> Coro<> {
        Lock lock;
        auto body = [&]() -> Coro<> {
            auto numbers = generator();
            co_await try_await(Coro<std::optional<int>>(numbers.next()));
        };
        co_await async_with(lock, body);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(outer());
        co_await sleep(1s);
        auto stack = task.get_stack();
        EXPECT_GE(stack.size(), 4u);
        if (!stack.empty()) {
            EXPECT_EQ(stack.back().line, innermost_line);
            EXPECT_TRUE(contains(stack.back().function, "innermost_function"));
        }
        task.cancel();
        co_await try_await(task);
    };
    run_virtual(main());
}

TEST(Stack, of_the_running_task_follows_it) {
    auto numbers = []() -> AsyncGenerator<std::size_t> {
        co_yield current_task().get_stack().size();
        co_yield current_task().get_stack().size();
    };
    auto inner = [](bool fail) -> Coro<std::size_t> {
        co_await sleep(0s);
        if (fail) throw ValueError("after a wait");
        co_return current_task().get_stack().size();
    };
    auto middle = [&](bool fail) -> Coro<std::size_t> { co_return co_await inner(fail); };
    auto main = [&]() -> Coro<> {
        auto depth = [] { return current_task().get_stack().size(); };
        EXPECT_EQ(depth(), 1u);
        EXPECT_EQ(co_await middle(false), 3u);
        EXPECT_EQ(depth(), 1u);
        EXPECT_FALSE((co_await try_await(middle(true))).has_value());
        EXPECT_EQ(depth(), 1u);
        auto generator = numbers();
        while (auto number = co_await generator.next()) EXPECT_EQ(*number, 2u);
        EXPECT_EQ(depth(), 1u);
        auto stopped = numbers();
        co_await stopped.next();
        EXPECT_EQ(depth(), 1u);
        co_await stopped.aclose();
        EXPECT_EQ(depth(), 1u);
    };
    run_virtual(main());
}
