#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <source_location>
#include <string>
#include <thread>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/text.hpp"
#include "support/trace_file.hpp"

using namespace coil;
using namespace support;

namespace {

constexpr const char* THIS_FILE = std::source_location::current().file_name();

std::string at_line(std::uint32_t line) { return fmt::format("{}:{}", THIS_FILE, line); }

bool near(double a, double b) {
    return std::abs(a - b) < 0.002;
}  // of microseconds, printed with three decimals

/// Runs it on virtual time and gives the trace.
template <class... Args, class... Given>
Trace traced(Coro<> (*body)(Args...), Given&&... given) {
    TraceFile file;
    auto main = [](const TraceFile& into, Coro<> inner) -> Coro<> {
        get_running_loop().start_tracing(into.path());
        co_await create_task(std::move(inner), {.name = "body"});
    };
    run_virtual(main(file, body(std::forward<Given>(given)...)));
    return Trace(file);
}

std::vector<Trace::Event> callbacks(const Trace& trace, std::string_view part) {
    std::vector<Trace::Event> found;
    for (auto& event : trace.find({{"cat", "callback"}, {"tid", 0}}))
        if (contains(event["name"].get<std::string>(), part)) found.push_back(event);
    return found;
}

/// How many arrows lead from one slice to the other.
int arrows(const Trace& trace, const Trace::Event& from, const Trace::Event& to) {
    int count = 0;
    for (const auto& start : trace.find({{"ph", "s"}, {"tid", from["tid"]}})) {
        double when = start["ts"].get<double>();
        if (when < began(from) || when >= ended(from)) continue;
        auto end = trace.one({{"ph", "f"}, {"id", start["id"]}});
        if (end.is_null() || end["tid"] != to["tid"] || end["ts"] != to["ts"]) continue;
        EXPECT_EQ(end["bp"], "e");
        ++count;
    }
    return count;
}

struct Quick {
    void operator()() const {}
};
struct Slow {
    void operator()() const { spin(3ms); }
};

}  // namespace

// ---- tasks

TEST(Tracing, a_task_has_a_track_with_its_runs_and_their_lines) {
    static std::uint32_t line;
    auto two_turns = []() -> Coro<> {
        line = std::source_location::current().line();
        co_await sleep(0s);
        co_await sleep(0s);
    };
    auto inner = [](Coro<> turns) -> Coro<> { co_await std::move(turns); };
    Trace trace = traced(+inner, two_turns());
    auto runs = trace.runs("body");
    ASSERT_EQ(runs.size(), 3u) << trace.all().dump(1);
    EXPECT_EQ(runs[0]["args"]["to"], at_line(line + 1));
    EXPECT_EQ(runs[1]["args"]["from"], at_line(line + 1));
    EXPECT_EQ(runs[1]["args"]["to"], at_line(line + 2));
    EXPECT_EQ(runs[2]["args"]["from"], at_line(line + 2));
    EXPECT_FALSE(runs[2]["args"].contains("to"));
    EXPECT_TRUE(contains(runs[1]["name"].get<std::string>(), "Tracing")) << runs[1];
    EXPECT_TRUE(contains(runs[0]["args"]["created"].get<std::string>(), THIS_FILE));
    EXPECT_FALSE(runs[1]["args"].contains("created"));
    for (std::size_t i = 1; i < runs.size(); ++i) EXPECT_GE(began(runs[i]), ended(runs[i - 1]));
    EXPECT_EQ(trace.find({{"name", "thread_sort_index"}, {"tid", trace.track("body")}}).size(), 1u);
}

TEST(Tracing, a_step_inside_a_queue_is_shown_where_the_program_is) {
    static std::uint32_t line;
    static auto consumer = [](Queue<int>& queue) -> Coro<> {
        line = std::source_location::current().line() + 1;
        co_await queue.get();
    };
    Trace trace = traced(+[]() -> Coro<> {
        Queue<int> queue;
        auto task = create_task(consumer(queue), {.name = "consumer"});
        co_await sleep(1s);
        queue.put_nowait(1);
        co_await task;
    });
    auto runs = trace.runs("consumer");
    ASSERT_EQ(runs.size(), 2u);
    EXPECT_EQ(runs[0]["args"]["to"], at_line(line));
    EXPECT_EQ(runs[1]["args"]["from"], at_line(line));
    auto waits = trace.waits("consumer");
    ASSERT_EQ(waits.size(), 1u);
    EXPECT_EQ(waits[0]["name"], "Queue.get with 0 items");
}

TEST(Tracing, a_wait_lasts_from_one_run_to_the_next_and_says_on_what) {
    Trace trace = traced(+[]() -> Coro<> { co_await sleep(250ms); });
    auto runs = trace.runs("body");
    auto waits = trace.waits("body");
    ASSERT_EQ(runs.size(), 2u);
    ASSERT_EQ(waits.size(), 1u);
    EXPECT_EQ(waits[0]["name"], "sleep(0.25s)");
    EXPECT_TRUE(near(began(waits[0]), ended(runs[0])));
    EXPECT_TRUE(near(ended(waits[0]), began(runs[1])));
    EXPECT_EQ(callbacks(trace, "the timer of a sleep").size(), 1u);
}

TEST(Tracing, a_turn_given_away_is_no_wait) {
    Trace trace = traced(+[]() -> Coro<> { co_await sleep(0s); });
    EXPECT_EQ(trace.runs("body").size(), 2u);
    EXPECT_TRUE(trace.waits("body").empty());
}

TEST(Tracing, a_wait_that_has_not_ended_reaches_to_the_end_of_the_trace) {
    TraceFile file;
    auto body = [](std::string path) -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.start_tracing(path);
        auto stuck = create_task([]() -> Coro<> { co_await Event().wait(); }(), {.name = "stuck"});
        co_await sleep(1s);
        loop.stop_tracing();
        stuck.cancel();
    };
    run_virtual(body(file.path()));
    Trace trace(file);
    auto waits = trace.waits("stuck");
    ASSERT_EQ(waits.size(), 1u);
    EXPECT_EQ(waits[0]["name"], "Event.wait");
    EXPECT_TRUE(near(ended(waits[0]), trace.one({{"name", "end of trace"}})["ts"].get<double>()));
}

TEST(Tracing, the_end_of_a_task_is_marked_with_how_it_ended) {
    Trace trace = traced(+[]() -> Coro<> {
        auto done = create_task([]() -> Coro<> { co_return; }(), {.name = "a"});
        auto failed = create_task(
            []() -> Coro<> {
                throw ValueError("no");
                co_return;
            }(),
            {.name = "b"});
        auto cancelled = create_task(sleep(1h, 1), {.name = "c"});
        co_await sleep(1s);
        cancelled.cancel();
        std::vector<Task<>> tasks{done, failed, cancelled};
        co_await wait(tasks);
        static_cast<void>(failed.exception());
    });
    auto how = [&](std::string_view task) {
        return trace.one({{"ph", "i"}, {"tid", trace.track(task)}})["name"].get<std::string>();
    };
    EXPECT_EQ(how("a"), "done");
    EXPECT_EQ(how("b"), "failed");
    EXPECT_EQ(how("c"), "cancelled");
}

TEST(Tracing, an_eager_step_is_on_its_own_track_within_the_run_that_began_it) {
    Trace trace = traced(+[]() -> Coro<> {
        auto begin = [] {
            auto body = []() -> Coro<> { co_await sleep(1ms); };
            create_task(body(), {.name = "eager", .eager_start = true});
        };
        get_running_loop().call_soon(begin);
        co_await sleep(1s);
    });
    auto runs = trace.runs("eager");
    auto outer = callbacks(trace, "<Handle ");
    ASSERT_EQ(runs.size(), 2u);
    ASSERT_EQ(outer.size(), 1u) << trace.all().dump(1);
    EXPECT_GE(began(runs[0]), began(outer[0]));
    EXPECT_LE(ended(runs[0]), ended(outer[0]));
}

TEST(Tracing, names_are_escaped_and_follow_the_last_one_given) {
    static const std::string odd = "a \"quoted\" \\ name\nwith\tcontrol \x01, \x7f and UTF-8: ü € 😀";
    Trace trace = traced(+[]() -> Coro<> {
        auto broken = "\xff|\xc3|\xe2\x82|\xed\xa0\x80|\xc0\xaf";
        auto nothing = []() -> Coro<> { co_return; };
        co_await create_task(nothing(), {.name = odd});
        co_await create_task(nothing(), {.name = broken});
        auto rename = []() -> Coro<> {
            co_await sleep(0s);
            current_task().set_name("second name");
        };
        co_await create_task(rename(), {.name = "first name"});
    });
    EXPECT_GT(trace.track(odd), 0);
    EXPECT_GT(trace.track("\ufffd|\ufffd|\ufffd\ufffd|\ufffd\ufffd\ufffd|\ufffd\ufffd"), 0);
    EXPECT_GT(trace.track("first name"), 0);
    EXPECT_EQ(trace.track("second name"), trace.track("first name"));
}

// ---- callbacks

TEST(Tracing, slow_callbacks_and_steps_are_marked) {
    Trace trace = traced(+[]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.slow_callback_duration = 2ms;
        loop.call_soon(Slow());
        loop.call_soon(Quick());
        auto busy = []() -> Coro<> {
            spin(3ms);
            co_return;
        };
        co_await create_task(busy(), {.name = "busy"});
    });
    auto slow = callbacks(trace, "Slow>");
    ASSERT_EQ(slow.size(), 1u) << trace.all().dump(1);
    EXPECT_EQ(slow[0]["args"]["slow"], true);
    EXPECT_GE(slow[0]["dur"], 3000);
    EXPECT_FALSE(trace.find({{"name", "slow"}, {"ph", "i"}, {"tid", 0}}).empty());
    auto quick = callbacks(trace, "Quick>");
    ASSERT_EQ(quick.size(), 1u);
    if (quick[0]["dur"] < 2000) {
        EXPECT_FALSE(quick[0].contains("args"));
    }
    auto runs = trace.runs("busy");
    ASSERT_EQ(runs.size(), 1u);
    EXPECT_EQ(runs[0]["args"]["slow"], true);
    EXPECT_EQ(trace.find({{"name", "slow"}, {"ph", "i"}, {"tid", trace.track("busy")}}).size(), 1u);
}

TEST(Tracing, debug_mode_warns_of_what_a_trace_shows) {
    TraceFile file;
    LogRecorder log;
    VirtualLoop loop;
    loop->set_debug(true);
    loop->slow_callback_duration = 2ms;
    loop->start_tracing(file.path());
    loop->call_soon(Slow());
    run_one_turn(*loop);
    loop->set_debug(false);
    loop->call_soon(Slow());
    run_one_turn(*loop);
    loop->stop_tracing();
    EXPECT_EQ(callbacks(Trace(file), "Slow>").size(), 2u);
    EXPECT_EQ(log.count("Slow>"), 1u) << log.str();
}

TEST(Tracing, a_run_that_an_interrupt_leaves_is_shown) {
    TraceFile file;
    VirtualLoop loop;
    loop->start_tracing(file.path());
    auto interrupt = [] { throw KeyboardInterrupt(); };
    loop->call_soon(interrupt);
    loop->call_soon(Quick());
    EXPECT_THROW(loop->run_forever(), KeyboardInterrupt);
    run_one_turn(*loop);
    loop->stop_tracing();
    Trace trace(file);
    EXPECT_EQ(callbacks(trace, "").size(), 2u) << trace.all().dump(1);
    EXPECT_EQ(callbacks(trace, "Quick>").size(), 1u);
}

class TracedPoll : public OnBackend {};
ON_EVERY_BACKEND(TracedPoll);

TEST_P(TracedPoll, the_time_that_the_loop_sleeps_is_idle) {
    TraceFile file;
    loop().start_tracing(file.path());
    loop().call_later(5ms, [this] { loop().stop(); });
    loop().run_forever();
    loop().stop_tracing();
    Trace trace(file);
    double slept = 0;
    for (const auto& poll : trace.find({{"name", "poll"}, {"cat", "idle"}, {"tid", 0}}))
        slept += poll["dur"].get<double>();
    auto called = callbacks(trace, "<Handle ");
    ASSERT_EQ(called.size(), 1u);
    EXPECT_GE(slept, 4000);
    EXPECT_LE(slept, began(called[0]));
}

// ---- arrows

TEST(Tracing, an_arrow_leads_from_the_waker_to_the_woken) {
    Trace trace = traced(+[]() -> Coro<> {
        Event event;
        auto waits = [](Event& for_it) -> Coro<> { co_await for_it.wait(); };
        auto first = create_task(waits(event), {.name = "first"});
        auto second = create_task(waits(event), {.name = "second"});
        co_await sleep(1s);
        event.set();
        get_running_loop().call_soon(Quick());
        std::vector<Task<>> tasks{first, second};
        co_await wait(tasks);
    });
    auto waker = trace.runs("body");
    auto first = trace.runs("first");
    auto second = trace.runs("second");
    auto quick = callbacks(trace, "Quick>");
    ASSERT_GE(waker.size(), 2u);
    ASSERT_EQ(first.size(), 2u);
    ASSERT_EQ(second.size(), 2u);
    ASSERT_EQ(quick.size(), 1u);
    EXPECT_EQ(arrows(trace, waker[0], first[0]), 1);  // created
    EXPECT_EQ(arrows(trace, waker[1], first[1]), 1);
    EXPECT_EQ(arrows(trace, waker[1], second[1]), 1);
    EXPECT_EQ(arrows(trace, waker[1], quick[0]), 1);
    EXPECT_EQ(arrows(trace, waker[0], first[1]), 0);
    // The timer fired by itself, and woke the task.
    auto timer = callbacks(trace, "timer");
    ASSERT_EQ(timer.size(), 1u);
    EXPECT_EQ(arrows(trace, timer[0], waker[1]), 1);
    EXPECT_TRUE(trace.find({{"ph", "f"}, {"tid", 0}, {"ts", timer[0]["ts"]}}).empty());
}

TEST(Tracing, who_awaits_a_task_gets_the_arrow_of_its_end) {
    Trace trace = traced(+[]() -> Coro<> {
        auto child = []() -> Coro<> { co_return; };
        co_await create_task(child(), {.name = "child"});
    });
    auto body = trace.runs("body");
    auto child = trace.runs("child");
    ASSERT_EQ(body.size(), 2u);
    ASSERT_EQ(child.size(), 1u);
    EXPECT_EQ(arrows(trace, body[0], child[0]), 1);
    EXPECT_EQ(arrows(trace, child[0], body[1]), 1);
}

TEST(Tracing, what_queues_itself_again_gets_no_arrow) {
    Trace trace = traced(+[]() -> Coro<> {
        for (int i = 0; i < 5; ++i) co_await sleep(0s);
    });
    EXPECT_EQ(trace.runs("body").size(), 6u);
    EXPECT_EQ(trace.find({{"ph", "f"}, {"tid", trace.track("body")}}).size(), 0u);
    EXPECT_LE(trace.find({{"ph", "s"}, {"tid", trace.track("body")}}).size(), 1u);  // of its end
}

TEST(Tracing, an_arrow_for_each_link_of_a_chain_of_callbacks) {
    struct Link {
        EventLoop& loop;
        int left;
        void operator()() const {
            if (left > 0) loop.call_soon(Link{loop, left - 1});
        }
    };
    Trace trace = traced(+[]() -> Coro<> {
        get_running_loop().call_soon(Link{get_running_loop(), 3});
        co_await sleep(1s);
    });
    auto links = callbacks(trace, "Link>");
    ASSERT_EQ(links.size(), 4u);
    for (std::size_t i = 1; i < links.size(); ++i) EXPECT_EQ(arrows(trace, links[i - 1], links[i]), 1);
}

// ---- begin and end

TEST(Tracing, misuse_is_reported) {
    TraceFile file;
    VirtualLoop loop;
    EXPECT_FALSE(loop->is_tracing());
    loop->stop_tracing();
    auto unopenable = [&] { loop->start_tracing(file.path() + "/below/a/file"); };
    EXPECT_TRUE(contains(thrown_by([&] { return unopenable(), 0; }), "NotADirectoryError") ||
                contains(thrown_by([&] { return unopenable(), 0; }), "FileNotFoundError"));
    EXPECT_FALSE(loop->is_tracing());
    loop->start_tracing(file.path());
    EXPECT_TRUE(loop->is_tracing());
    EXPECT_EQ(thrown_by([&] { return loop->start_tracing(file.path()), 0; }),
              "RuntimeError: This event loop is traced already: call stop_tracing() first");
    auto elsewhere = [&] {
        std::string error;
        std::thread([&] { error = thrown_by([&] { return loop->stop_tracing(), 0; }); }).join();
        EXPECT_TRUE(contains(error, "Non-thread-safe operation")) << error;
    };
    loop->call_soon(elsewhere);
    run_one_turn(*loop);
    EXPECT_TRUE(loop->is_tracing());
    loop->stop_tracing();
    loop->close();
    EXPECT_EQ(thrown_by([&] { return loop->start_tracing(file.path()), 0; }),
              "RuntimeError: Event loop is closed");
    loop->stop_tracing();
}

TEST(Tracing, may_begin_and_end_inside_a_callback) {
    TraceFile first;
    TraceFile second;
    VirtualLoop loop;
    auto begin = [&] { loop->start_tracing(first.path()); };
    auto change = [&] {
        loop->stop_tracing();
        EXPECT_FALSE(loop->is_tracing());
        loop->start_tracing(second.path());
    };
    struct InFirst : Quick {};
    struct InSecond : Quick {};
    struct Later : Quick {};
    loop->call_soon(begin);
    loop->call_soon(Later());
    run_one_turn(*loop);
    loop->call_soon(InFirst());
    loop->call_soon(change);
    loop->call_soon(InSecond());
    run_one_turn(*loop);
    loop->call_soon([&] { loop->stop_tracing(); });
    loop->call_soon(Later());
    run_one_turn(*loop);
    auto names = [](const TraceFile& file) {
        std::vector<std::string> texts;
        for (const auto& event : callbacks(Trace(file), "")) texts.push_back(event["name"]);
        return texts;
    };
    ASSERT_EQ(names(first).size(), 1u) << first.text();
    EXPECT_TRUE(contains(names(first)[0], "InFirst"));
    ASSERT_EQ(names(second).size(), 1u) << second.text();
    EXPECT_TRUE(contains(names(second)[0], "InSecond"));
}

TEST(Tracing, of_a_task_may_end_in_the_middle_of_its_step) {
    TraceFile file;
    auto body = [](std::string path) -> Coro<> {
        EventLoop& loop = get_running_loop();
        loop.start_tracing(path);
        co_await sleep(0s);
        loop.stop_tracing();
        co_await sleep(0s);
        co_await sleep(0s);
    };
    run_virtual(body(file.path()));
    EXPECT_TRUE(Trace(file).find({{"cat", "run"}}).empty());
}

TEST(Tracing, closing_the_loop_ends_the_trace) {
    TraceFile file;
    auto loop = coil::testing::virtual_loop();
    loop->start_tracing(file.path());
    loop->close();
    EXPECT_FALSE(loop->is_tracing());
    EXPECT_EQ(Trace(file).find({{"name", "end of trace"}}).size(), 1u);
}

TEST(Tracing, a_file_that_was_cut_off_has_whole_events_and_no_end) {
    TraceFile file;
    auto body = [](const TraceFile& into) -> Coro<> {
        get_running_loop().start_tracing(into.path());
        EXPECT_FALSE(Trace(into.text() + "]").all().empty());
        for (int i = 0; i < 2000; ++i) co_await sleep(0s);
        std::string so_far = into.text();
        EXPECT_GT(so_far.size(), 64u << 10);
        EXPECT_GT(Trace(so_far + "]").find({{"cat", "run"}}).size(), 200u);
    };
    run_virtual(body(file));
}

TEST(Tracing, ends_with_a_warning_when_the_file_cannot_be_written) {
    LogRecorder log;
    VirtualLoop loop;
    loop->start_tracing("/dev/full");
    EXPECT_FALSE(loop->is_tracing());
    bool called = false;
    loop->call_soon([&] { called = true; });
    run_one_turn(*loop);
    EXPECT_TRUE(called);
    EXPECT_EQ(log.lines().size(), 1u) << log.str();
    EXPECT_EQ(log.count("the trace in '/dev/full' ends here: No space left on device"), 1u) << log.str();
    TraceFile file;
    loop->start_tracing(file.path());
    EXPECT_TRUE(loop->is_tracing());
}

TEST(Tracing, a_forked_child_leaves_its_parents_file_alone) {
    TraceFile file;
    TraceFile own;
    VirtualLoop loop;
    loop->start_tracing(file.path());
    struct Parent : Quick {};
    struct Child : Quick {};
    loop->call_soon(Parent());
    run_one_turn(*loop);
    auto child = [&] {
        bool was_tracing = loop->is_tracing();
        loop->call_soon(Child());
        run_one_turn(*loop);
        loop->start_tracing(own.path());
        loop->call_soon(Child());
        run_one_turn(*loop);
        loop->close();
        return was_tracing ? 1 : 0;
    };
    ChildResult result = in_child(child);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    loop->close();
    Trace trace(file);
    EXPECT_EQ(callbacks(trace, "").size(), 1u);
    EXPECT_EQ(callbacks(trace, "Parent>").size(), 1u);
    EXPECT_EQ(callbacks(Trace(own), "Child>").size(), 1u);
}

// ---- the environment

namespace {

class TracedByEnvironment {
  public:
    explicit TracedByEnvironment(const std::string& path) { set(path); }
    ~TracedByEnvironment() { ::unsetenv("COIL_TRACE"); }
    TracedByEnvironment(const TracedByEnvironment&) = delete;
    TracedByEnvironment& operator=(const TracedByEnvironment&) = delete;
    static void set(const std::string& path) { ::setenv("COIL_TRACE", path.c_str(), 1); }
};

std::string pid_suffix() { return "." + std::to_string(::getpid()); }

}  // namespace

TEST(Tracing, is_begun_by_the_environment_for_each_loop_that_runs) {
    // The loops of a process are counted for all its life, so this is the only test that has some, but for children.
    TraceFile file;
    LogRecorder log;
    TracedByEnvironment traced(file.path());
    auto run_a_loop = [] {
        VirtualLoop never_runs;
        VirtualLoop loop;
        EXPECT_FALSE(loop->is_tracing());
        loop->call_soon(Quick());
        run_one_turn(*loop);
        EXPECT_TRUE(loop->is_tracing());
        run_one_turn(*loop);
    };
    run_a_loop();
    run_a_loop();
    EXPECT_EQ(callbacks(Trace(file), "Quick>").size(), 1u);
    EXPECT_EQ(callbacks(Trace(read_text(file.path() + ".2")), "Quick>").size(), 1u);

    auto child = [&] {
        run_a_loop();
        run_a_loop();
        Trace first(read_text(file.path() + pid_suffix()));
        Trace second(read_text(file.path() + pid_suffix() + ".2"));
        return callbacks(first, "Quick>").size() == 1 && callbacks(second, "Quick>").size() == 1 ? 0 : 1;
    };
    ChildResult result = in_child(child);
    EXPECT_EQ(result.exit_code, 0) << result.output;

    TracedByEnvironment::set(file.path() + "/below");
    VirtualLoop untraced;
    run_one_turn(*untraced);
    EXPECT_FALSE(untraced->is_tracing());
    EXPECT_EQ(log.lines().size(), 1u) << log.str();
    EXPECT_EQ(log.count("COIL_TRACE: no trace is written: "), 1u) << log.str();
}
