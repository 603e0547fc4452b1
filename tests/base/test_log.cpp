#include "coil/log.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/child.hpp"
#include "support/reports.hpp"

using namespace coil;
using namespace support;

TEST(Log, writes_to_stderr_by_default) {
    ChildResult result = in_child([] {
        log(LogLevel::WARNING, "careful");
        log(LogLevel::ERROR_, "broken");
        log(LogLevel::INFO, "for handlers only");
        log(LogLevel::DEBUG_, "for handlers only");
        return 0;
    });
    EXPECT_EQ(result.output, "coil warning: careful\ncoil error: broken\n");
}

TEST(Log, goes_to_the_handler_until_an_empty_one_is_set) {
    {
        LogRecorder recorder;
        log(LogLevel::INFO, "one");
        log(LogLevel::CRITICAL, "two");
        auto lines = recorder.lines();
        ASSERT_EQ(lines.size(), 2u);
        EXPECT_EQ(lines[0].level, LogLevel::INFO);
        EXPECT_EQ(lines[0].text, "one");
        EXPECT_EQ(lines[1].level, LogLevel::CRITICAL);
    }
    ChildResult result = in_child([] {
        log(LogLevel::WARNING, "back");
        return 0;
    });
    EXPECT_EQ(result.output, "coil warning: back\n");
}

TEST(Log, never_fails) {
    set_log_handler([](LogLevel, std::string_view) { throw std::runtime_error("handler"); });
    log(LogLevel::ERROR_, "text");
    set_log_handler([](LogLevel, std::string_view) { throw 5; });
    log(LogLevel::ERROR_, "text");
    set_log_handler({});
}

TEST(Log, a_handler_may_replace_itself_and_log) {
    std::vector<std::string> seen;
    set_log_handler([&](LogLevel, std::string_view text) {
        seen.push_back("first " + std::string(text));
        set_log_handler(
            [&](LogLevel, std::string_view more) { seen.push_back("second " + std::string(more)); });
        log(LogLevel::INFO, "from inside");
    });
    log(LogLevel::INFO, "a");
    log(LogLevel::INFO, "b");
    set_log_handler({});
    EXPECT_EQ(seen, (std::vector<std::string>{"first a", "second from inside", "second b"}));
}

TEST(Log, is_used_by_many_threads_while_the_handler_changes_Thread) {
    std::atomic<int> lines{0};
    std::atomic<bool> stop{false};
    set_log_handler([&](LogLevel, std::string_view) { ++lines; });
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([] {
            for (int i = 0; i < 2000; ++i) log(LogLevel::INFO, "line");
        });
    }
    std::thread changer([&] {
        while (!stop) set_log_handler([&](LogLevel, std::string_view) { ++lines; });
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    changer.join();
    set_log_handler({});
    EXPECT_EQ(lines.load(), 8000);
}
