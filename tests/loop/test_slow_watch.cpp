#include <gtest/gtest.h>

#include <source_location>
#include <string>
#include <thread>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::LogRecorder;

namespace {

void block(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// The warnings of slow callbacks.
std::vector<std::string> slow_ones(const LogRecorder& log) {
    std::vector<std::string> texts;
    for (const auto& [level, text] : log.lines()) {
        if (!text.starts_with("Executing ")) continue;
        EXPECT_EQ(level, LogLevel::WARNING);
        EXPECT_TRUE(text.ends_with(" seconds")) << text;
        texts.push_back(text);
    }
    return texts;
}

class SlowCallbacks : public support::OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro, bool debug = true) {
        return coil::run(std::move(coro), {.debug = debug, .loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(SlowCallbacks);

std::uint32_t awaited_line = 0;
std::uint32_t next_line = 0;

Coro<> blocks_between_two_awaits() {
    awaited_line = std::source_location::current().line() + 1;
    co_await sleep(0s);
    block(20ms);
    next_line = std::source_location::current().line() + 1;
    co_await sleep(0s);
}

}  // namespace

TEST_P(SlowCallbacks, are_named_with_their_time) {
    LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_EQ(loop.slow_callback_duration, 100ms);
        loop.slow_callback_duration = 20ms;
        loop.call_soon(block, 20ms);
        co_await sleep(0s);
        co_await sleep(0s);
        loop.slow_callback_duration = 1h;
        loop.call_soon(block, 20ms);
        co_await sleep(0s);
        co_await sleep(0s);
    }());
    auto slow = slow_ones(log);
    ASSERT_EQ(slow.size(), 1u) << log.str();
    EXPECT_TRUE(contains(slow[0], "<Handle void (*)(std::chrono::duration")) << slow[0];
    EXPECT_TRUE(contains(slow[0], " took 0.0")) << slow[0];
}

TEST_P(SlowCallbacks, of_tasks_name_the_task_and_the_lines_between_which_it_ran) {
    LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.slow_callback_duration = 20ms;
        co_await create_task(blocks_between_two_awaits(), {.name = "busy"});
        loop.slow_callback_duration = 1h;
    }());
    auto slow = slow_ones(log);
    ASSERT_EQ(slow.size(), 1u) << log.str();
    EXPECT_TRUE(contains(slow[0], "Task 'busy' running from ")) << slow[0];
    auto from = slow[0].find("test_slow_watch.cpp:" + std::to_string(awaited_line));
    auto to = slow[0].find("test_slow_watch.cpp:" + std::to_string(next_line));
    EXPECT_NE(from, std::string::npos) << slow[0];
    EXPECT_NE(to, std::string::npos) << slow[0];
    EXPECT_LT(from, to);
    EXPECT_TRUE(contains(slow[0], "blocks_between_two_awaits")) << slow[0];
}

TEST_P(SlowCallbacks, a_task_that_ends_slowly_is_named_too) {
    LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.slow_callback_duration = 20ms;
        auto body = []() -> Coro<> {
            block(20ms);
            throw ValueError("at the end");
            co_return;
        };
        co_await try_await(create_task(body(), {.name = "last words"}));
        loop.slow_callback_duration = 1h;
    }());
    auto slow = slow_ones(log);
    ASSERT_EQ(slow.size(), 1u) << log.str();
    EXPECT_TRUE(contains(slow[0], "Task 'last words' (finished) running from ")) << slow[0];
    EXPECT_TRUE(contains(slow[0], "to its end> took ")) << slow[0];
}

TEST_P(SlowCallbacks, of_futures_are_named) {
    LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.slow_callback_duration = 20ms;
        auto future = loop.create_future();
        future.add_done_callback([](Future<>) { block(20ms); });
        future.set_result();
        co_await sleep(0s);
        co_await sleep(0s);
        loop.slow_callback_duration = 1h;
    }());
    auto slow = slow_ones(log);
    ASSERT_EQ(slow.size(), 1u) << log.str();
    EXPECT_TRUE(contains(slow[0], "of Future (finished)>")) << slow[0];
}

TEST_P(SlowCallbacks, of_a_protocol_are_named) {
    struct Slow final : Protocol {
        void data_received(std::string_view) override {
            block(20ms);
            received.set();
        }
        Event received;
    };
    LogRecorder log;
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        auto factory = [] { return std::make_shared<Slow>(); };
        auto [transport, protocol] = co_await loop.create_connection(factory, std::move(a));
        loop.slow_callback_duration = 20ms;
        co_await loop.sock_sendall(b, std::as_bytes(std::span("x", 1)));
        co_await protocol->received.wait();
        loop.slow_callback_duration = 1h;
        transport->close();
        co_await sleep(0s);
    }());
    auto slow = slow_ones(log);
    ASSERT_EQ(slow.size(), 1u) << log.str();
    EXPECT_TRUE(contains(slow[0], "<socket transport on descriptor ")) << slow[0];
    EXPECT_TRUE(contains(slow[0], "Slow> took ")) << slow[0];
}

TEST_P(SlowCallbacks, are_nobodys_business_without_debug_mode) {
    LogRecorder log;
    run(
        []() -> Coro<> {
            EventLoop& loop = get_running_loop();
            loop.slow_callback_duration = 0s;
            loop.call_soon(block, 20ms);
            co_await sleep(0s);
            co_await sleep(0s);
            loop.set_debug(true);
            co_await sleep(0s);
            loop.call_soon(block, 20ms);
            loop.slow_callback_duration = 20ms;
            co_await sleep(0s);
            co_await sleep(0s);
            loop.slow_callback_duration = 1h;
            loop.set_debug(false);
        }(),
        false);
    std::size_t handles = 0;
    for (const std::string& text : slow_ones(log)) handles += contains(text, "<Handle");
    EXPECT_EQ(handles, 1u) << log.str();
}
