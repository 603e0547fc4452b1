#include "coil/events.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

class LoopTest : public ::testing::Test {
  protected:
    auto note(std::string text) {
        return [this, text] { log.push_back(text); };
    }
    VirtualLoop loop;
    Log log;
};

}  // namespace

// ---- call_soon

TEST_F(LoopTest, call_soon_is_first_in_first_out_with_its_arguments) {
    loop->call_soon([&](std::string a, int b) { log.push_back(a + std::to_string(b)); }, "x", 1);
    loop->call_soon(note("y"));
    auto object = std::make_unique<int>(5);
    loop->call_soon([&](std::unique_ptr<int> p) { log.push_back(std::to_string(*p)); }, std::move(object));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"x1", "y", "5"}));
}

TEST_F(LoopTest, what_a_batch_adds_runs_in_the_next_turn) {
    loop->call_soon([&] {
        log.push_back("a");
        loop->call_soon(note("c"));
    });
    loop->call_soon(note("b"));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"a", "b"}));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"a", "b", "c"}));
}

TEST_F(LoopTest, arguments_are_copied_and_destroyed_after_the_call) {
    long before = Alive::count();
    Alive argument;
    Handle kept = loop->call_soon([](const Alive&) {}, argument);
    EXPECT_EQ(Alive::count(), before + 2);
    run_one_turn(*loop);
    EXPECT_EQ(Alive::count(), before + 1) << "also if a handle is kept";
    EXPECT_FALSE(kept.cancelled());
}

TEST_F(LoopTest, a_member_function_is_callable) {
    struct Object {
        int value = 0;
        void add(int n) { value += n; }
    } object;
    loop->call_soon(&Object::add, &object, 3);
    run_one_turn(*loop);
    EXPECT_EQ(object.value, 3);
}

// ---- handles

TEST_F(LoopTest, a_cancelled_callback_never_runs_and_is_destroyed_at_once) {
    long before = Alive::count();
    Handle handle = loop->call_soon([this](const Alive&) { log.push_back("no"); }, Alive());
    EXPECT_FALSE(handle.cancelled());
    EXPECT_EQ(Alive::count(), before + 1);
    handle.cancel();
    EXPECT_TRUE(handle.cancelled());
    EXPECT_EQ(Alive::count(), before);
    handle.cancel();
    run_one_turn(*loop);
    EXPECT_EQ(log, Log());
}

TEST_F(LoopTest, a_callback_may_cancel_others_of_its_batch_and_itself) {
    Handle later;
    Handle self;
    self = loop->call_soon([&] {
        log.push_back("first");
        later.cancel();
        self.cancel();
    });
    later = loop->call_soon(note("later"));
    loop->call_soon(note("last"));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"first", "last"}));
    EXPECT_TRUE(later.cancelled());
    EXPECT_TRUE(self.cancelled());
}

TEST_F(LoopTest, cancelling_after_the_run_is_only_a_flag) {
    Handle handle = loop->call_soon(note("ran"));
    run_one_turn(*loop);
    EXPECT_FALSE(handle.cancelled());
    handle.cancel();
    EXPECT_TRUE(handle.cancelled());
    EXPECT_EQ(log, (Log{"ran"}));
}

TEST_F(LoopTest, a_cancelled_timer_leaves_nothing_behind) {
    long before = Alive::count();
    std::vector<TimerHandle> handles;
    for (int i = 0; i < 1000; ++i)
        handles.push_back(loop->call_later(std::chrono::hours(i), [](const Alive&) {}, Alive()));
    for (auto& handle : handles) handle.cancel();
    EXPECT_EQ(Alive::count(), before);
    EXPECT_TRUE(loop->core().timers.empty());
}

TEST_F(LoopTest, an_empty_handle_does_nothing) {
    Handle handle;
    EXPECT_FALSE(static_cast<bool>(handle));
    EXPECT_FALSE(handle.cancelled());
    handle.cancel();
    TimerHandle timer;
    timer.cancel();
}

TEST_F(LoopTest, a_handle_outlives_its_loop) {
    Handle soon;
    TimerHandle later;
    Handle threadsafe;
    long before = Alive::count();
    {
        VirtualLoop other;
        soon = other->call_soon([](const Alive&) {}, Alive());
        later = other->call_later(1s, [](const Alive&) {}, Alive());
        threadsafe = other->call_soon_threadsafe([](const Alive&) {}, Alive());
    }
    soon.cancel();
    later.cancel();
    threadsafe.cancel();
    soon = threadsafe = Handle();
    later = TimerHandle();
    EXPECT_EQ(Alive::count(), before);
}

TEST_F(LoopTest, a_callback_runs_in_the_context_of_its_registration_or_the_given_one) {
    static ContextVar<int> var("var", 0);
    Context registering;
    Context given;
    given.run([] { var.set(20); });
    registering.run([&] {
        var.set(10);
        Handle handle = loop->call_soon([&] { log.push_back(std::to_string(var.get())); });
        EXPECT_EQ(handle.get_context()[var], 10);
        var.set(11);
        loop->call_later(1s, [&] {
            log.push_back(std::to_string(var.get()));
            var.set(99);
        });
        loop->call_soon(in_context(given), [&] {
            log.push_back(std::to_string(var.get()));
            var.set(21);
        });
        loop->call_later(2s, in_context(given), [&] { log.push_back(std::to_string(var.get())); });
        loop->call_soon_threadsafe(in_context(given), [&] { log.push_back(std::to_string(var.get())); });
    });
    loop->call_later(3s, [&] { loop->stop(); });
    loop->run_forever();
    EXPECT_EQ(log, (Log{"10", "20", "21", "11", "21"}));
    EXPECT_EQ(registering[var], 11);
    EXPECT_EQ(var.get(), 0);
}

// ---- timers

TEST_F(LoopTest, timers_run_by_deadline_then_by_order_of_creation) {
    loop->call_later(3s, note("3s"));
    loop->call_later(1s, note("1s a"));
    loop->call_later(2s, note("2s"));
    loop->call_later(1s, note("1s b"));
    loop->call_at(loop->time() + 1s, note("1s c"));
    loop->call_later(10s, [&] { loop->stop(); });
    loop->run_forever();
    EXPECT_EQ(log, (Log{"1s a", "1s b", "1s c", "2s", "3s"}));
}

TEST_F(LoopTest, due_timers_run_behind_what_is_ready) {
    loop->call_later(0s, note("zero"));
    loop->call_later(-5s, note("negative"));
    loop->call_at(TimePoint(), note("long ago"));
    loop->call_soon(note("ready"));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"ready", "negative", "long ago", "zero"}));
}

TEST_F(LoopTest, when_gives_the_deadline) {
    TimePoint now = loop->time();
    EXPECT_EQ(loop->call_later(5s, [] {}).when(), now + 5s);
    EXPECT_EQ(loop->call_at(now + 7s, [] {}).when(), now + 7s);
}

TEST_F(LoopTest, takes_any_duration_and_saturates) {
    loop->call_later(std::chrono::duration<double>(0.5), note("half"));
    loop->call_later(std::chrono::duration<float, std::milli>(1.5f), note("ms"));
    loop->call_later(std::chrono::hours::max(), note("never"));
    loop->call_later(std::chrono::duration<double>(std::numeric_limits<double>::infinity()), note("never"));
    loop->call_later(std::chrono::duration<double>(-std::numeric_limits<double>::infinity()), note("now"));
    loop->call_later(std::chrono::hours::min(), note("now"));
    loop->call_at(TimePoint::max(), note("never"));
    loop->call_later(24h, [&] { loop->stop(); });
    loop->run_forever();
    EXPECT_EQ(log, (Log{"now", "now", "ms", "half"}));
}

TEST_F(LoopTest, ten_thousand_timers_with_random_deadlines_run_in_order) {
    std::vector<TimePoint> fired;
    unsigned x = 12345;
    for (int i = 0; i < 10'000; ++i) {
        x = x * 1103515245 + 12345;
        loop->call_later(std::chrono::microseconds(x % 1'000'000), [&] { fired.push_back(loop->time()); });
    }
    loop->call_later(2s, [&] { loop->stop(); });
    loop->run_forever();
    EXPECT_EQ(fired.size(), 10'000u);
    EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

// ---- stop

TEST_F(LoopTest, stop_before_a_run_makes_one_turn_without_waiting) {
    loop->call_later(1h, note("timer"));
    loop->stop();
    loop->run_forever();
    EXPECT_EQ(log, Log());
    loop->call_soon(note("one"));
    loop->stop();
    loop->run_forever();
    EXPECT_EQ(log, (Log{"one"}));
}

TEST_F(LoopTest, stop_finishes_the_batch_and_keeps_what_it_added) {
    loop->call_soon([&] {
        loop->stop();
        log.push_back("stop");
        loop->call_soon(note("next run"));
    });
    loop->call_soon(note("same batch"));
    loop->run_forever();
    EXPECT_EQ(log, (Log{"stop", "same batch"}));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"stop", "same batch", "next run"}));
}

TEST_F(LoopTest, the_stop_flag_is_gone_after_the_run) {
    loop->call_soon([&] {
        loop->stop();
        loop->stop();
    });
    loop->run_forever();
    int turns = 0;
    std::function<void()> tick = [&] {
        if (++turns == 3) return loop->stop();
        loop->call_soon([&] { tick(); });
    };
    loop->call_soon([&] { tick(); });
    loop->run_forever();
    EXPECT_EQ(turns, 3);
}

TEST_F(LoopTest, run_until_complete_stops_after_the_turn_in_which_it_finished) {
    Future<int> future = loop->create_future<int>();
    loop->call_soon([&] {
        future.set_result(4);
        loop->call_soon(note("after"));
    });
    EXPECT_EQ(loop->run_until_complete(future), 4);
    EXPECT_EQ(log, (Log{"after"})) << "queued behind the callback that stops, but in the same batch";
    auto failing = []() -> Coro<> {
        throw ValueError("x");
        co_return;
    };
    EXPECT_EQ(thrown_by([&] { loop->run_until_complete(failing()); }), "ValueError: x");
    EXPECT_FALSE(loop->is_running());
}

// ---- close

TEST_F(LoopTest, knows_whether_it_runs_and_is_closed) {
    EXPECT_FALSE(loop->is_running());
    EXPECT_FALSE(loop->is_closed());
    loop->call_soon([&] {
        EXPECT_TRUE(loop->is_running());
        EXPECT_EQ(&get_running_loop(), loop.get());
        EXPECT_EQ(&get_event_loop(), loop.get());
        loop->stop();
    });
    loop->run_forever();
    EXPECT_FALSE(loop->is_running());
    loop->close();
    EXPECT_TRUE(loop->is_closed());
    loop->close();
}

TEST_F(LoopTest, closing_drops_what_is_queued_and_scheduled) {
    long before = Alive::count();
    loop->call_soon([this](const Alive&) { log.push_back("no"); }, Alive());
    loop->call_later(1s, [this](const Alive&) { log.push_back("no"); }, Alive());
    loop->call_soon_threadsafe([this](const Alive&) { log.push_back("no"); }, Alive());
    loop->close();
    EXPECT_EQ(Alive::count(), before);
    EXPECT_EQ(log, Log());
}

TEST_F(LoopTest, what_is_dropped_may_use_the_loop_that_closes) {
    struct Cancels {
        Handle handle;
        EventLoop* loop;
        ~Cancels() {
            handle.cancel();
            if (loop) {
                EXPECT_TRUE(loop->is_closed());
            }
        }
        Cancels(Handle h, EventLoop* l) : handle(std::move(h)), loop(l) {}
        Cancels(Cancels&& other) noexcept
            : handle(std::move(other.handle)), loop(std::exchange(other.loop, nullptr)) {}
    };
    Handle soon = loop->call_soon([] {});
    TimerHandle later = loop->call_later(5s, [] {});
    loop->call_soon([cancels = Cancels(later, loop.get())] {});
    loop->call_later(1s, [cancels = Cancels(soon, loop.get())] {});
    loop->call_later(1s, [cancels = Cancels(later, loop.get())] {});
    loop->close();
}

TEST(Loop, forgotten_to_be_closed_says_so_and_closes) {
    LogRecorder log;
    std::size_t fds = open_fds();
    {
        auto loop = std::make_unique<EventLoop>(Backend::EPOLL);
    }
    EXPECT_EQ(log.count("unclosed event loop"), 1u) << log.str();
    EXPECT_EQ(open_fds(), fds);
}

// ---- errors

TEST_F(LoopTest, anything_that_a_callback_throws_is_reported_and_the_batch_goes_on) {
    Reports reports(*loop);
    struct NoStd {};
    loop->call_soon([] { throw 5; });
    loop->call_soon([] { throw ValueError("value"); });
    loop->call_soon([] { throw NoStd(); });
    loop->call_soon([] { throw "text"; });
    loop->call_soon([] { throw CancelledError("cancelled"); });
    loop->call_soon(note("goes on"));
    loop->call_later(1s, [] { throw ValueError("timer"); });
    loop->call_later(2s, [&] { loop->stop(); });
    loop->run_forever();
    EXPECT_EQ(log, (Log{"goes on"}));
    ASSERT_EQ(reports.size(), 6u);
    EXPECT_EQ(reports[0].error, "int");
    EXPECT_EQ(reports[0].message.substr(0, 22), "Exception in callback ");
    EXPECT_TRUE(reports[0].has_handle);
    EXPECT_EQ(reports[1].error, "ValueError: value");
    EXPECT_EQ(reports[2].error, "NoStd");
    EXPECT_EQ(reports[3].error, "char const*");
    EXPECT_EQ(reports[4].error, "CancelledError: cancelled");
    EXPECT_EQ(reports[5].error, "ValueError: timer");
}

TEST_F(LoopTest, the_default_handler_writes_one_record_to_the_log) {
    LogRecorder log_lines;
    loop->call_soon([] { throw ValueError("boom"); });
    run_one_turn(*loop);
    loop->call_exception_handler({.message = "", .details = {{"b", "2"}, {"a", "1"}}});
    auto lines = log_lines.lines();
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0].level, LogLevel::ERROR_);
    EXPECT_EQ(lines[0].text.substr(0, 22), "Exception in callback ");
    EXPECT_NE(lines[0].text.find("ValueError: boom"), std::string::npos);
    EXPECT_EQ(lines[1].text, "Unhandled exception in event loop\na: 1\nb: 2");
}

TEST_F(LoopTest, a_failing_handler_falls_back_to_the_default_one) {
    LogRecorder log_lines;
    loop->set_exception_handler([](EventLoop&, const ExceptionContext&) { throw 7; });
    EXPECT_TRUE(static_cast<bool>(loop->get_exception_handler()));
    loop->call_soon([] { throw ValueError("boom"); });
    loop->call_soon(note("goes on"));
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"goes on"}));
    EXPECT_EQ(log_lines.count("Unhandled error in exception handler"), 1u) << log_lines.str();
    loop->set_exception_handler({});
    loop->call_soon([] { throw ValueError("again"); });
    run_one_turn(*loop);
    EXPECT_EQ(log_lines.count("ValueError: again"), 1u) << log_lines.str();
}

TEST(Loop, a_failing_default_handler_is_only_logged) {
    struct Failing : EventLoop {
        using EventLoop::EventLoop;
        void default_exception_handler(const ExceptionContext&) override { throw ValueError("handler"); }
    };
    LogRecorder log;
    Failing loop(Backend::EPOLL);
    bool ran = false;
    loop.call_soon([] { throw 1; });
    loop.call_soon([&] { ran = true; });
    run_one_turn(loop);
    EXPECT_TRUE(ran);
    EXPECT_EQ(log.count("ValueError: handler"), 1u) << log.str();
    loop.close();
}

TEST_F(LoopTest, a_handler_may_replace_itself_and_use_the_loop) {
    loop->set_exception_handler([&](EventLoop& on, const ExceptionContext&) {
        log.push_back("first");
        on.set_exception_handler([&](EventLoop&, const ExceptionContext&) { log.push_back("second"); });
        on.call_soon(note("called"));
    });
    loop->call_soon([] { throw 1; });
    loop->call_soon([] { throw 2; });
    run_one_turn(*loop);
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"first", "second", "called"}));
}

TEST_F(LoopTest, the_handler_runs_in_the_context_of_the_callback) {
    static ContextVar<int> var("var", 0);
    loop->set_exception_handler(
        [&](EventLoop&, const ExceptionContext&) { log.push_back(std::to_string(var.get())); });
    copy_context().run([&] {
        var.set(4);
        loop->call_soon([] { throw 1; });
    });
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"4"}));
}

TEST_F(LoopTest, a_KeyboardInterrupt_leaves_at_once_and_keeps_the_rest_of_the_batch) {
    loop->call_soon(note("before"));
    loop->call_soon([] { throw KeyboardInterrupt(); });
    loop->call_soon(note("behind"));
    loop->call_later(0s, note("timer"));
    EXPECT_EQ(thrown_by([&] { loop->run_forever(); }), "KeyboardInterrupt");
    EXPECT_EQ(log, (Log{"before"}));
    EXPECT_FALSE(loop->is_running());
    EXPECT_EQ(thrown_by([] { return &get_running_loop(); }), "RuntimeError: no running event loop");
    run_one_turn(*loop);
    EXPECT_EQ(log, (Log{"before", "behind", "timer"}));
}

TEST_F(LoopTest, a_KeyboardInterrupt_of_a_task_or_done_callback_leaves_too) {
    auto interrupt = []() -> Coro<> {
        throw KeyboardInterrupt();
        co_return;
    };
    Task<> task = loop->create_task(interrupt());
    loop->call_soon(note("behind"));
    EXPECT_EQ(thrown_by([&] { loop->run_forever(); }), "KeyboardInterrupt");
    EXPECT_EQ(error_text(task.exception()), "KeyboardInterrupt");
    EXPECT_EQ(log, Log());
    Future<> future = loop->create_future();
    future.add_done_callback([](Future<>) { throw KeyboardInterrupt(); });
    future.set_result();
    EXPECT_EQ(thrown_by([&] { loop->run_forever(); }), "KeyboardInterrupt");
    EXPECT_EQ(log, (Log{"behind"}));
}

// ---- on real backends

class RealLoop : public OnBackend {};
ON_EVERY_BACKEND(RealLoop);

TEST_P(RealLoop, has_the_name_of_its_backend) {
    EXPECT_EQ(loop().backend(), GetParam() == Backend::URING ? "uring" : "epoll");
}

TEST_P(RealLoop, a_timer_is_never_early_and_not_much_late) {
    for (Duration delay : {Duration(1us), Duration(100us), Duration(1ms), Duration(7ms), Duration(30ms)}) {
        TimePoint start = loop().time();
        TimePoint fired;
        loop().call_later(delay, [&] {
            fired = loop().time();
            loop().stop();
        });
        loop().run_forever();
        EXPECT_GE(fired - start, delay);
        EXPECT_LT(fired - start, delay + 2s);
    }
}

TEST_P(RealLoop, timers_run_in_order_of_their_deadlines) {
    std::vector<int> order;
    for (int i : {5, 1, 3, 2, 4}) {
        loop().call_later(std::chrono::milliseconds(i * 3), [&order, i] { order.push_back(i); });
    }
    loop().call_later(30ms, [&] { loop().stop(); });
    loop().run_forever();
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4, 5}));
}

TEST_P(RealLoop, a_wait_without_work_uses_no_processor_time) {
    auto used = [] {
        timespec now{};
        ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
    };
    loop().call_later(300ms, [&] { loop().stop(); });
    auto before = used();
    loop().run_forever();
    EXPECT_LT(used() - before, 150ms);
}

TEST_P(RealLoop, closed_gives_back_its_descriptors) {
    std::size_t before = open_fds();
    for (int i = 0; i < 100; ++i) {
        auto other = make_loop();
        other->call_soon([&] { other->stop(); });
        other->run_forever();
        other->close();
    }
    EXPECT_EQ(open_fds(), before);
}

TEST_P(RealLoop, a_forked_child_has_no_running_loop_and_may_run_its_own) {
    int status = -1;
    loop().call_soon([&] {
        pid_t pid = ::fork();
        if (pid == 0) {
            int code = 0;
            try {
                get_running_loop();
                code = 1;
            } catch (const RuntimeError&) {
            }
            try {
                auto main = []() -> Coro<int> { co_return co_await sleep(1ms, 5); };
                if (run(main(), {.loop_factory = factory()}) != 5) code = 2;
            } catch (...) {
                code = 3;
            }
            ::_exit(code);
        }
        ::waitpid(pid, &status, 0);
        loop().stop();
    });
    loop().run_forever();
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    bool works = false;
    loop().call_later(1ms, [&] {
        works = true;
        loop().stop();
    });
    loop().run_forever();
    EXPECT_TRUE(works) << "the parent's loop is undisturbed";
}
