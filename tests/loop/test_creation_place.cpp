#include "coil/detail/creation_place.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <source_location>
#include <string>
#include <thread>
#include <vector>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::contains;
using support::LogRecorder;
using support::Reports;

namespace {

std::uint32_t line_after(std::source_location here = std::source_location::current()) {
    return here.line() + 1;
}

/// "…/test_creation_place.cpp:12", whose line this is.
std::string place(std::uint32_t line) {
    return fmt::format("{}:{}", std::source_location::current().file_name(), line);
}
std::string trail_line(std::uint32_t line, const char* before = "") {
    return fmt::format("  File '{}', {}line {}, in ", std::source_location::current().file_name(), before,
                       line);
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

void throws() { throw ValueError("no"); }

class CreationPlace : public support::OnBackend {
  protected:
    void run(Coro<> coro, bool debug = true) {
        coil::run(std::move(coro), {.debug = debug, .loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(CreationPlace);

}  // namespace

TEST_P(CreationPlace, of_a_future_is_its_line) {
    auto main = []() -> Coro<> {
        auto line = line_after();
        Future<int> future = get_running_loop().create_future<int>();
        EXPECT_EQ(future.describe(), "<Future pending, created at " + place(line) + ">");
        future.set_result(1);
        EXPECT_EQ(future.describe(), "<Future finished, created at " + place(line) + ">");
        get_running_loop().set_debug(false);
        co_await sleep(0s);
        EXPECT_EQ(get_running_loop().create_future().describe(), "<Future pending>");
        EXPECT_EQ(future.describe(), "<Future finished, created at " + place(line) + ">");
    };
    run(main());
}

TEST_P(CreationPlace, of_a_handle_is_the_line_that_the_task_has_passed) {
    auto main = []() -> Coro<> {
        auto line = line_after();
        co_await sleep(0s);
        EventLoop& loop = get_running_loop();
        std::string made = ", created after " + place(line) + ">";
        Handle soon = loop.call_soon(&throws);
        EXPECT_TRUE(soon.describe().starts_with("<Handle ")) << soon.describe();
        EXPECT_TRUE(soon.describe().ends_with(made)) << soon.describe();
        soon.cancel();
        EXPECT_TRUE(soon.describe().ends_with(" cancelled" + made)) << soon.describe();
        TimerHandle later = loop.call_later(1h, &throws);
        EXPECT_TRUE(later.describe().starts_with("<TimerHandle at ")) << later.describe();
        EXPECT_TRUE(later.describe().ends_with(made)) << later.describe();
        later.cancel();
        Handle from_here = loop.call_soon_threadsafe(&throws);
        EXPECT_TRUE(from_here.describe().ends_with(made)) << from_here.describe();
        from_here.cancel();
        // Another thread has no task.
        Handle from_there;
        std::thread([&] { from_there = loop.call_soon_threadsafe([] {}); }).join();
        EXPECT_FALSE(contains(from_there.describe(), "created")) << from_there.describe();
    };
    run(main());
}

TEST_P(CreationPlace, is_in_the_report_of_a_callback_that_throws) {
    Reports reports;
    std::uint32_t outer = 0, inner = 0;
    auto calls = [&]() -> Coro<> {
        inner = line_after();
        co_await sleep(0s);
        get_running_loop().call_soon(&throws);
    };
    auto main = [&]() -> Coro<> {
        reports.record(get_running_loop());
        outer = line_after();
        co_await calls();
        co_await sleep(0s);
    };
    run(main());
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_TRUE(reports[0].has_handle);
    EXPECT_TRUE(reports[0].details.at("handle").ends_with(", created after " + place(inner) + ">"))
        << reports[0].details.at("handle");
    auto lines = lines_of(reports[0].details.at("source_traceback"));
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_EQ(lines[0], "Object created at (most recent call last):");
    EXPECT_TRUE(lines[1].starts_with(trail_line(outer))) << lines[1];
    EXPECT_TRUE(lines[2].starts_with(trail_line(inner, "after "))) << lines[2];
}

TEST_P(CreationPlace, is_logged_with_what_nobody_saw) {
    std::uint32_t created = 0;
    auto main = [&]() -> Coro<> {
        auto fails = []() -> Coro<> {
            co_await sleep(0s);
            throw ValueError("lost");
        };
        created = line_after();
        Task<> task = create_task(fails(), {.name = "loser"});
        co_await sleep(10ms);
    };
    LogRecorder log;
    run(main());
    EXPECT_EQ(log.count("Task exception was never retrieved"), 1u) << log.str();
    EXPECT_TRUE(contains(log.str(), "task: <Task 'loser' failed with coil::ValueError: lost, created at " +
                                        place(created) + ">"))
        << log.str();
    EXPECT_TRUE(contains(log.str(), "source_traceback: Object created at (most recent call last):\n"))
        << log.str();
    EXPECT_TRUE(contains(log.str(), trail_line(created))) << log.str();

    // Without debug mode the task's own line is known, and no way to it.
    LogRecorder quiet;
    run(main(), false);
    EXPECT_TRUE(contains(quiet.str(), ", created at " + place(created) + ">")) << quiet.str();
    EXPECT_FALSE(contains(quiet.str(), "source_traceback")) << quiet.str();
}

TEST_P(CreationPlace, of_a_deep_call_has_the_ten_innermost_lines) {
    auto main = []() -> Coro<> {
        struct Recursion {
            static Coro<Future<>> down(int depth) {
                if (depth == 0) co_return get_running_loop().create_future();
                co_return co_await down(depth - 1);
            }
        };
        Future<> future = co_await Recursion::down(50);
        std::string trail = detail::creation_trail(&future.state());
        EXPECT_EQ(lines_of(trail).size(), 10u) << trail;
        EXPECT_TRUE(lines_of(trail).back().find(", after line") == std::string::npos) << trail;
    };
    run(main());
}

TEST_P(CreationPlace, of_a_reader_is_in_its_report) {
    Reports reports;
    auto main = [&]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        reports.record(loop);
        int ends[2];
        EXPECT_EQ(::pipe(ends), 0);
        auto line = line_after();
        co_await sleep(0s);
        Event called;
        loop.add_reader(ends[0], [&] {
            loop.remove_reader(ends[0]);
            called.set();
            throw ValueError("no");
        });
        EXPECT_EQ(::write(ends[1], "x", 1), 1);
        co_await called.wait();
        ::close(ends[0]);
        ::close(ends[1]);
        EXPECT_EQ(reports.size(), 1u);
        EXPECT_TRUE(contains(reports[0].details.at("handle"), ", created after " + place(line)))
            << reports[0].details.at("handle");
    };
    run(main());
}
