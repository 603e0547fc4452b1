#include <fmt/format.h>
#include <gtest/gtest.h>

#include <source_location>
#include <string>
#include <thread>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::contains;
using support::LogRecorder;

namespace {

void block(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

/// The warnings of slow callbacks with this in their text. A machine that has other things to do makes others slow, too.
std::vector<std::string> slow_ones(const LogRecorder& log, std::string_view part) {
    std::vector<std::string> texts;
    for (const auto& [level, text] : log.lines()) {
        if (!text.starts_with("Executing ") || !contains(text, part)) continue;
        EXPECT_EQ(level, LogLevel::WARNING);
        EXPECT_TRUE(text.ends_with(" seconds")) << text;
        texts.push_back(text);
    }
    return texts;
}

class SlowCallbacks : public support::OnBackend {
  protected:
    void run(Coro<> coro, bool debug) {
        coil::run(std::move(coro), {.debug = debug, .loop_factory = factory()});
    }
    /// Runs it in debug mode, with 20 ms as the limit; gives a warning with this in its text. `alone`: no other callback can have it.
    std::string slow_one(std::string_view part, Coro<> body, bool alone = true) {
        LogRecorder log;
        auto limited = [](Coro<> inner) -> Coro<> {
            EventLoop& loop = get_running_loop();
            loop.slow_callback_duration = 20ms;
            co_await std::move(inner);
            loop.slow_callback_duration = 1h;
        };
        run(limited(std::move(body)), true);
        auto slow = slow_ones(log, part);
        EXPECT_TRUE(alone ? slow.size() == 1 : !slow.empty()) << log.str();
        return slow.empty() ? "" : slow[0];
    }
};
ON_EVERY_BACKEND(SlowCallbacks);

constexpr const char* THIS_FILE = std::source_location::current().file_name();
constexpr std::uint32_t AWAITED_LINE = std::source_location::current().line() + 3;

Coro<> blocks_between_two_awaits() {
    co_await sleep(0s);
    block(20ms);
    co_await sleep(0s);
}

}  // namespace

TEST_P(SlowCallbacks, are_named_with_their_time) {
    std::string slow = slow_one("<Handle void (*)(std::chrono::duration", []() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.call_soon(block, 20ms);
        co_await sleep(0s);
        co_await sleep(0s);
        loop.slow_callback_duration = 1h;
        loop.call_soon(block, 20ms);
        co_await sleep(0s);
        co_await sleep(0s);
    }());
    EXPECT_TRUE(contains(slow, "> took 0.")) << slow;
}

TEST_P(SlowCallbacks, the_limit_is_a_tenth_of_a_second_at_first) {
    run(
        []() -> Coro<> {
            EXPECT_EQ(get_running_loop().slow_callback_duration, 100ms);
            co_return;
        }(),
        true);
}

TEST_P(SlowCallbacks, of_tasks_name_the_task_and_the_lines_between_which_it_ran) {
    auto body = []() -> Coro<> { co_await create_task(blocks_between_two_awaits(), {.name = "busy"}); };
    // The line where that step began; the others began elsewhere.
    std::string from = fmt::format("Task 'busy' running from {}:{} in ", THIS_FILE, AWAITED_LINE);
    std::string slow = slow_one(from, body());
    EXPECT_TRUE(contains(slow, fmt::format(" to {}:{} in ", THIS_FILE, AWAITED_LINE + 2))) << slow;
    EXPECT_TRUE(contains(slow, "blocks_between_two_awaits")) << slow;
}

TEST_P(SlowCallbacks, a_task_that_ends_slowly_is_named_too) {
    auto ends = []() -> Coro<> {
        block(20ms);
        throw ValueError("at the end");
        co_return;
    };
    auto body = [&]() -> Coro<> { co_await try_await(create_task(ends(), {.name = "last words"})); };
    std::string slow = slow_one("Task 'last words' running from ", body());
    EXPECT_TRUE(contains(slow, "to its end> took ")) << slow;
}

TEST_P(SlowCallbacks, of_futures_are_named) {
    slow_one(" of Future created at ", []() -> Coro<> {
        auto future = get_running_loop().create_future();
        future.add_done_callback([](Future<>) { block(20ms); });
        future.set_result();
        co_await sleep(0s);
        co_await sleep(0s);
    }());
}

TEST_P(SlowCallbacks, of_a_protocol_are_named) {
    struct Slow final : Protocol {
        void data_received(std::string_view) override {
            block(20ms);
            received.set();
        }
        Event received;
    };
    std::string slow = slow_one(
        "<socket transport on descriptor ",
        []() -> Coro<> {
            EventLoop& loop = get_running_loop();
            auto [a, b] = Socket::pair();
            auto factory = [] { return std::make_shared<Slow>(); };
            auto [transport, protocol] = co_await loop.create_connection(factory, std::move(a));
            co_await loop.sock_sendall(b, std::as_bytes(std::span("x", 1)));
            co_await protocol->received.wait();
            transport->close();
            co_await sleep(0s);
        }(),
        false);  // it runs for other events, too
    EXPECT_TRUE(contains(slow, "Slow> took ")) << slow;
}

TEST_P(SlowCallbacks, are_nobodys_business_without_debug_mode) {
    LogRecorder log;
    run(
        []() -> Coro<> {
            EventLoop& loop = get_running_loop();
            loop.slow_callback_duration = 20ms;
            for (bool debug : {false, true, false}) {
                loop.set_debug(debug);
                co_await sleep(0s);
                loop.call_soon(block, 20ms);
                co_await sleep(0s);
                co_await sleep(0s);
            }
        }(),
        false);
    EXPECT_EQ(slow_ones(log, "<Handle void (*)(std::chrono::duration").size(), 1u) << log.str();
}
