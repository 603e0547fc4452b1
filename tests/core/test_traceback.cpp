#include "coil/traceback.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <iostream>
#include <source_location>
#include <sstream>
#include <string>
#include <vector>

#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace support;

namespace {

// The lines of the awaits below.
std::uint32_t inner_line = 0;
std::uint32_t middle_line = 0;

Coro<> throws() {
    inner_line = std::source_location::current().line() + 1;
    co_await sleep(1s);
    throw ValueError("deep down");
}

Coro<> calls() {
    middle_line = std::source_location::current().line() + 1;
    co_await throws();
}

/// What the coroutine ends with.
Coro<std::exception_ptr> error_of(Coro<> coro) {
    auto outcome = co_await try_await(std::move(coro));
    co_return outcome.exception();
}

/// "middle inner!" for the two coroutines above, by their lines; others by their line.
std::string way(const std::exception_ptr& error) {
    std::string text;
    for (const auto& [frame, thrown_here] : extract_tb(error)) {
        if (!text.empty()) text += ' ';
        text += frame.line == inner_line    ? "inner"
                : frame.line == middle_line ? "middle"
                                            : std::to_string(frame.line);
        if (thrown_here) text += '!';
    }
    return text;
}

}  // namespace

TEST(Traceback, names_each_coroutine_outermost_first) {
    auto main = []() -> Coro<> {
        std::exception_ptr error = co_await error_of(calls());
        EXPECT_EQ(way(error), "middle inner!");
        auto entries = extract_tb(error);
        EXPECT_TRUE(contains(entries.at(0).frame.function, "calls")) << entries.at(0).frame.function;
        EXPECT_TRUE(contains(entries.at(1).frame.function, "throws"));
        EXPECT_TRUE(contains(entries.at(1).frame.file, "test_traceback.cpp"));
        std::string text = format_exception(error);
        EXPECT_TRUE(text.starts_with("Traceback (most recent call last):\n  File '")) << text;
        EXPECT_TRUE(contains(text, "test_traceback.cpp', line " + std::to_string(middle_line) + ", in "))
            << text;
        EXPECT_TRUE(contains(text, "test_traceback.cpp', after line " + std::to_string(inner_line) + ", in "))
            << text;
        EXPECT_TRUE(text.ends_with("\ncoil::ValueError: deep down")) << text;
        std::ostringstream out;
        print_exception(error, out);
        EXPECT_EQ(out.str(), text + "\n");
    };
    run_virtual(main());
}

TEST(Traceback, goes_on_across_tasks) {
    std::uint32_t line = 0;
    auto awaits = [&](Task<> task) -> Coro<> {
        line = std::source_location::current().line() + 1;
        co_await task;
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(calls());
        std::exception_ptr error = co_await error_of(awaits(task));
        EXPECT_EQ(way(error), std::to_string(line) + " middle inner!");
        // The task's own is what it was.
        EXPECT_EQ(way(co_await error_of(awaits(task))), std::to_string(line) + " middle inner!");
    };
    run_virtual(main());
}

TEST(Traceback, of_one_task_that_several_await_is_right_for_each) {
    std::uint32_t first_line = 0;
    std::uint32_t second_line = 0;
    auto first = [&](Task<> task) -> Coro<> {
        first_line = std::source_location::current().line() + 1;
        co_await task;
    };
    auto second = [&](Task<> task) -> Coro<> {
        second_line = std::source_location::current().line() + 1;
        co_await task;
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(calls());
        Task<> a = create_task(first(task));
        Task<> b = create_task(second(task));
        auto awaits = [](Task<> other) -> Coro<> { co_await other; };
        for (int round = 0; round < 2; ++round) {
            std::string of_a = way(co_await error_of(awaits(a)));
            std::string of_b = way(co_await error_of(awaits(b)));
            EXPECT_TRUE(of_a.ends_with(" " + std::to_string(first_line) + " middle inner!")) << of_a;
            EXPECT_TRUE(of_b.ends_with(" " + std::to_string(second_line) + " middle inner!")) << of_b;
        }
    };
    run_virtual(main());
}

TEST(Traceback, goes_on_through_gather_and_a_group) {
    auto main = []() -> Coro<> {
        auto gathers = []() -> Coro<> { co_await gather(calls(), sleep(1h)); };
        EXPECT_TRUE(way(co_await error_of(gathers())).ends_with(" middle inner!"));
        auto groups = []() -> Coro<> {
            co_await async_with(TaskGroup(), [](TaskGroup& group) -> Coro<> {
                group.create_task(calls());
                co_return;
            });
        };
        std::exception_ptr error = co_await error_of(groups());
        try {
            std::rethrow_exception(error);
        } catch (const ExceptionGroup& group) {
            EXPECT_EQ(way(group.exceptions().at(0)), "middle inner!");
        }
        std::string text = format_exception(error);
        EXPECT_TRUE(text.starts_with("  + Exception Group Traceback (most recent call last):\n  |   File '"))
            << text;
        EXPECT_TRUE(contains(text,
                             "\n  | coil::ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
                             "  +-+---------------- 1 ----------------\n"
                             "    | Traceback (most recent call last):\n"
                             "    |   File '"))
            << text;
        EXPECT_TRUE(
            text.ends_with("\n    | coil::ValueError: deep down\n    +------------------------------------"))
            << text;
    };
    run_virtual(main());
}

TEST(Traceback, of_nested_groups_is_a_tree) {
    auto made = [](auto error) { return std::make_exception_ptr(std::move(error)); };
    ExceptionGroup inner("inner", {made(ValueError("two")), made(ValueError("of two\nlines"))});
    ExceptionGroup outer("outer", {made(ValueError("one")), made(inner)});
    EXPECT_EQ(format_exception(made(outer)),
              "  | coil::ExceptionGroup: outer (2 sub-exceptions)\n"
              "  +-+---------------- 1 ----------------\n"
              "    | coil::ValueError: one\n"
              "    +---------------- 2 ----------------\n"
              "    | coil::ExceptionGroup: inner (2 sub-exceptions)\n"
              "    +-+---------------- 1 ----------------\n"
              "      | coil::ValueError: two\n"
              "      +---------------- 2 ----------------\n"
              "      | coil::ValueError: of two\n"
              "      | lines\n"
              "      +------------------------------------\n"
              "    +------------------------------------");
}

TEST(Traceback, of_what_was_caught_stored_and_rethrown_goes_on) {
    std::uint32_t line = 0;
    auto main = [&]() -> Coro<> {
        auto catches = []() -> Coro<> {
            try {
                co_await throws();
            } catch (const ValueError&) {
                throw;
            }
        };
        std::exception_ptr error = co_await error_of(catches());
        EXPECT_TRUE(way(error).ends_with(" inner!")) << way(error);
        EXPECT_EQ(extract_tb(error).size(), 2u);
        auto rethrows = [&](std::exception_ptr stored) -> Coro<> {
            line = std::source_location::current().line() + 1;
            co_await sleep(1s);
            std::rethrow_exception(stored);
        };
        EXPECT_TRUE(way(co_await error_of(rethrows(error))).starts_with(std::to_string(line) + " "));
    };
    run_virtual(main());
}

TEST(Traceback, of_a_new_exception_begins_anew) {
    auto main = []() -> Coro<> {
        // The next one probably has the former one's address.
        for (int round = 0; round < 100; ++round) {
            auto replaces = []() -> Coro<> {
                try {
                    co_await calls();
                } catch (const ValueError&) {
                }
                throw ValueError("another");
            };
            std::exception_ptr error = co_await error_of(replaces());
            EXPECT_EQ(extract_tb(error).size(), 1u) << way(error);
            EXPECT_TRUE(way(error).ends_with("!"));
        }
        // The same for those that are made without a throw.
        for (int round = 0; round < 100; ++round) {
            auto awaits = [](Future<> future) -> Coro<> { co_await future; };
            auto future = get_running_loop().create_future();
            future.set_exception(ValueError("made"));
            std::exception_ptr error = co_await error_of(awaits(future));
            EXPECT_EQ(extract_tb(error).size(), 1u) << way(error);
            EXPECT_FALSE(way(error).ends_with("!"));
        }
        for (int round = 0; round < 100; ++round) {
            auto waits = []() -> Coro<> { co_await sleep(1h); };
            Task<> task = create_task(waits());
            co_await sleep(0s);
            task.cancel("with a message");
            auto outcome = co_await try_await(task);
            EXPECT_LE(extract_tb(outcome.exception()).size(), 1u);
        }
    };
    run_virtual(main());
}

TEST(Traceback, goes_through_generators_and_cleanup) {
    auto main = []() -> Coro<> {
        auto numbers = []() -> AsyncGenerator<int> {
            co_yield 1;
            co_await throws();
        };
        auto iterates = [&]() -> Coro<> {
            auto generator = numbers();
            while (co_await generator.next()) {
            }
        };
        EXPECT_EQ(extract_tb(co_await error_of(iterates())).size(), 3u);
        auto cleans = []() -> Coro<> {
            auto body = []() -> Coro<> { co_await calls(); };
            auto cleanup = []() -> Coro<> { co_await try_await(calls()); };
            co_await coil::finally(body(), cleanup);
        };
        std::string through = way(co_await error_of(cleans()));
        EXPECT_TRUE(through.ends_with(" middle inner!")) << through;
        EXPECT_EQ(through.find("inner"), through.rfind("inner")) << through;
    };
    run_virtual(main());
}

TEST(Traceback, of_a_deep_recursion_keeps_the_innermost) {
    auto main = []() -> Coro<> {
        struct Recursion {
            static Coro<> down(int depth) {
                if (depth == 0) throw ValueError("bottom");
                co_await down(depth - 1);
            }
        };
        auto entries = extract_tb(co_await error_of(Recursion::down(1000)));
        EXPECT_EQ(entries.size(), 30u);
        EXPECT_TRUE(entries.back().thrown_here);
    };
    run_virtual(main());
}

TEST(Traceback, is_printed_when_nobody_catches_what_run_throws) {
    ChildResult result = in_child([]() noexcept {
        run_virtual(calls());
        return 0;
    });
    EXPECT_EQ(result.signal, SIGABRT);
    EXPECT_TRUE(contains(result.output, "Traceback (most recent call last):\n")) << result.output;
    EXPECT_TRUE(contains(result.output, ", in ")) << result.output;
    EXPECT_TRUE(contains(result.output, "coil::ValueError: deep down")) << result.output;

    // The other tasks have ended before, as if somebody had caught it.
    struct Cleanup {
        ~Cleanup() { std::cerr << "cleaned up\n"; }
    };
    auto leaves_a_task = []() -> Coro<> {
        auto works = []() -> Coro<> {
            Cleanup cleanup;
            co_await sleep(1h);
        };
        // Each is cancelled by an exception: more than are remembered.
        std::vector<Task<>> tasks;
        for (int i = 0; i < 40; ++i) tasks.push_back(create_task(works()));
        co_await sleep(0s);
        co_await calls();
    };
    ChildResult cleaned = in_child([&]() noexcept {
        run_virtual(leaves_a_task());
        return 0;
    });
    EXPECT_EQ(cleaned.signal, SIGABRT);
    EXPECT_TRUE(contains(cleaned.output, "cleaned up\nTraceback (most recent call last):\n"))
        << cleaned.output;
    EXPECT_TRUE(contains(cleaned.output, "coil::ValueError: deep down")) << cleaned.output;

    // Who catches it sees nothing of that.
    ChildResult caught = in_child([] {
        try {
            run_virtual(calls());
        } catch (const ValueError&) {
        }
        return 0;
    });
    EXPECT_EQ(caught.exit_code, 0);
    EXPECT_EQ(caught.output, "");
}

TEST(Traceback, is_empty_for_what_passed_no_coroutine) {
    EXPECT_TRUE(extract_tb(nullptr).empty());
    EXPECT_EQ(format_exception(nullptr), "no exception");
    auto error = std::make_exception_ptr(ValueError("plain"));
    EXPECT_TRUE(extract_tb(error).empty());
    EXPECT_EQ(format_exception(error), "coil::ValueError: plain");
}

TEST(Traceback, is_in_reports_however_many_exceptions_come_between) {
    LogRecorder log;
    auto main = []() -> Coro<> {
        Task<> lost = create_task(calls());
        co_await sleep(2s);
        for (int i = 0; i < 100; ++i) co_await error_of(calls());
    };
    run_virtual(main());
    ASSERT_EQ(log.count("Task exception was never retrieved"), 1u) << log.str();
    EXPECT_EQ(log.count("\nTraceback (most recent call last):\n  File '"), 1u) << log.str();
    EXPECT_EQ(log.count("', after line " + std::to_string(inner_line)), 1u) << log.str();
}
