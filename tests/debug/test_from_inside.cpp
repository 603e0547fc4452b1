// Programs that are stuck, seen from inside: by call graphs, by debug mode and in a trace.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <string>

#include "debug/stuck_program.hpp"
#include "support/text.hpp"
#include "support/trace_file.hpp"

namespace {

using support::contains;
using support::Trace;
using support::TraceFile;

class FromInside : public testing::TestWithParam<const char*> {
  protected:
    /// The program's call graphs; in debug mode they say where a future was made.
    static std::string graphs(const std::string& kind, bool debug = false) {
        return StuckProgram(kind, GetParam(), {.graph = true, .environment = debug_mode(debug)}).output();
    }
    /// The graph whose first line names this task, without what is above it.
    static std::string graph_of(const std::string& graphs, const std::string& task) {
        std::size_t begin = graphs.find("* Task(name='" + task + "', id=0x");
        while (begin != std::string::npos && begin > 0 && graphs[begin - 1] != '\n')
            begin = graphs.find("* Task(name='" + task + "', id=0x", begin + 1);
        if (begin == std::string::npos) return "no graph of " + task;
        return graphs.substr(begin, graphs.find("\n\n", begin) - begin);
    }
    /// What the trace of the program has, once the signal has ended it.
    static Trace trace(const std::string& kind, int signal_number = SIGINT) {
        TraceFile file;
        StuckProgram program(kind, GetParam(), {.environment = {"COIL_TRACE=" + file.path()}});
        program.end_by(signal_number);
        return Trace(file);
    }
    /// The last thing that the task waited for.
    static std::string last_wait(const Trace& trace, const std::string& task) {
        auto waits = trace.waits(task);
        return waits.empty() ? "nothing" : waits.back().at("name").get<std::string>();
    }
    static std::vector<std::string> debug_mode(bool on) {
        return {std::string("COIL_DEBUG=") + (on ? "1" : "0")};
    }
};

TEST_P(FromInside, two_locks_taken_in_two_orders) {
    std::string all = graphs("locks");
    std::string forth = graph_of(all, "a to b");
    EXPECT_TRUE(contains(forth, "stuck.cpp', line ")) << forth;
    EXPECT_TRUE(contains(forth, "take_both(")) << forth;
    EXPECT_TRUE(contains(forth, "\n  + Waiting for: Lock.acquire, held by Task 'b to a'\n")) << forth;
    EXPECT_TRUE(contains(forth, "\n  + Awaited by:\n    * Task(name='Task-1', id=0x")) << forth;
    std::string back = graph_of(all, "b to a");
    EXPECT_TRUE(contains(back, "\n  + Waiting for: Lock.acquire, held by Task 'a to b'")) << back;
    EXPECT_FALSE(contains(back, "Awaited by")) << back;

    Trace traced = trace("locks");
    EXPECT_EQ(last_wait(traced, "a to b"), "Lock.acquire, held by Task 'b to a'");
    EXPECT_EQ(last_wait(traced, "b to a"), "Lock.acquire, held by Task 'a to b'");
    EXPECT_EQ(last_wait(traced, "Task-1"), "Task 'a to b'");
}

TEST_P(FromInside, a_wake_up_that_came_too_early) {
    std::string worker = graph_of(graphs("lost wake-up"), "worker");
    EXPECT_TRUE(contains(worker, "wait_for_work(")) << worker;
    EXPECT_TRUE(contains(worker, "\n  + Waiting for: Condition.wait\n")) << worker;
    EXPECT_EQ(last_wait(trace("lost wake-up"), "Task-1"), "Task 'worker'");
}

TEST_P(FromInside, a_future_that_nobody_sets) {
    std::string reader = graph_of(graphs("never set"), "reader");
    EXPECT_TRUE(contains(reader, "read_answer(")) << reader;
    EXPECT_TRUE(contains(reader, "\n  + Waiting for: Future\n")) << reader;
    reader = graph_of(graphs("never set", true), "reader");
    EXPECT_TRUE(contains(reader, "\n  + Waiting for: Future created at ")) << reader;
    EXPECT_TRUE(contains(reader, "stuck.cpp:")) << reader;
    EXPECT_EQ(last_wait(trace("never set"), "reader"), "Future");
}

TEST_P(FromInside, a_busy_loop) {
    std::string spinner = graph_of(graphs("busy"), "spinner");
    EXPECT_TRUE(contains(spinner, "spin()")) << spinner;
    EXPECT_FALSE(contains(spinner, "Waiting for: sleep")) << spinner;
    EXPECT_TRUE(contains(spinner, "\n  + Awaited by:\n    * Task(name='Task-1', id=0x")) << spinner;

    // Who held the loop is known when it lets go.
    StuckProgram program("busy", GetParam(), {.environment = debug_mode(true)});
    std::string said = program.end_by(SIGUSR1);
    std::size_t slow = said.find("Executing <Task 'spinner' running from ");
    ASSERT_NE(slow, std::string::npos) << said;
    std::string line = said.substr(slow, said.find('\n', slow) - slow);
    EXPECT_TRUE(contains(line, "stuck.cpp:")) << said;
    EXPECT_TRUE(contains(line, "::spin(")) << said;
    EXPECT_TRUE(contains(line, " to its end> took ")) << said;

    Trace traced = trace("busy", SIGUSR1);
    auto runs = traced.runs("spinner");
    ASSERT_EQ(runs.size(), 2u);
    int track = traced.track("spinner");
    EXPECT_FALSE(traced.find({{"name", "slow"}, {"tid", track}}).empty());
    EXPECT_FALSE(traced.find({{"name", "done"}, {"tid", track}}).empty());
}

TEST_P(FromInside, a_peer_that_stalls) {
    std::string all = graphs("stalled peer");
    std::string port = all.substr(0, all.find('\n'));
    std::string waits = "StreamReader.readexactly from ('127.0.0.1', " + port + ")";
    std::string client = graph_of(all, "client");
    EXPECT_TRUE(contains(client, "ask(")) << client;
    EXPECT_TRUE(contains(client, "\n  + Waiting for: " + waits + "\n")) << client;
    std::string last = last_wait(trace("stalled peer"), "client");
    EXPECT_TRUE(last.starts_with("StreamReader.readexactly from ('127.0.0.1', ")) << last;
}

INSTANTIATE_TEST_SUITE_P(Backends, FromInside, testing::Values("epoll", "uring"),
                         [](const auto& of) { return std::string(of.param); });

}  // namespace
