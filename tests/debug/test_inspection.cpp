// Programs that are stuck, seen from outside: as `coil ps` and `coil pstree` show them.

#include <gtest/gtest.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>

#include "debug/stuck_program.hpp"
#include "support/text.hpp"
#include "tools/coil/show.hpp"
#include "tools/coil/snapshot.hpp"

namespace {

using namespace coil::tools;
using support::contains;

class Inspection : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (!may_trace()) GTEST_SKIP() << "processes may not be traced here";
    }
    static const TaskView& task(const LoopView& loop, std::string_view name) {
        auto found = std::ranges::find(loop.tasks, name, &TaskView::name);
        if (found == loop.tasks.end()) throw std::runtime_error("no task '" + std::string(name) + "'");
        return *found;
    }
    static const LoopView& only_loop(const Snapshot& snapshot) {
        EXPECT_EQ(snapshot.loops.size(), 1u);
        return snapshot.loops.at(0);
    }
    static std::set<std::string> waiters(const LoopView& loop, std::string_view name) {
        std::set<std::string> names;
        for (Address id : task(loop, name).awaited_by) {
            auto found = std::ranges::find(loop.tasks, id, &TaskView::id);
            names.insert(found == loop.tasks.end() ? "somebody else" : found->name);
        }
        return names;
    }
};

TEST_P(Inspection, two_locks_taken_in_two_orders) {
    StuckProgram program("locks", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    EXPECT_TRUE(loop.running);
    EXPECT_EQ(loop.thread, program.pid());
    EXPECT_EQ(loop.tasks.size(), 3u);
    const TaskView& forth = task(loop, "a to b");
    EXPECT_EQ(forth.state, "waiting");
    EXPECT_EQ(forth.waits_for, "Lock.acquire, held by Task 'b to a'");
    EXPECT_EQ(waiters(loop, "a to b"), std::set<std::string>{"Task-1"});
    ASSERT_EQ(forth.stack.size(), 1u);
    EXPECT_EQ(short_function(forth.stack[0].function), "take_both");
    EXPECT_TRUE(forth.stack[0].file.ends_with("stuck.cpp"));
    EXPECT_GT(forth.stack[0].line, 1u);
    ASSERT_TRUE(forth.created_at);
    EXPECT_TRUE(forth.created_at->file.ends_with("stuck.cpp"));
    EXPECT_TRUE(contains(forth.created_at->function, "locks"));
    ASSERT_TRUE(forth.age);
    EXPECT_GE(*forth.age, 0);
    EXPECT_LT(*forth.age, 60);
    EXPECT_EQ(task(loop, "b to a").waits_for, "Lock.acquire, held by Task 'a to b'");
    EXPECT_EQ(task(loop, "Task-1").waits_for, "Task 'a to b'");

    auto circles = deadlocks(loop);
    ASSERT_EQ(circles.size(), 1u);
    EXPECT_EQ(circles[0].size(), 2u);
    EXPECT_TRUE(contains(show_table(snapshot), "deadlock: 'a to b' waits for 'b to a' waits for 'a to b'\n"))
        << show_table(snapshot);
    EXPECT_TRUE(program.alive());
}

TEST_P(Inspection, a_wake_up_that_came_too_early) {
    StuckProgram program("lost wake-up", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    const TaskView& worker = task(loop, "worker");
    EXPECT_EQ(worker.waits_for, "Condition.wait");
    ASSERT_EQ(worker.stack.size(), 2u);
    EXPECT_TRUE(contains(worker.stack[0].function, "Condition::wait")) << worker.stack[0].function;
    EXPECT_EQ(short_function(worker.stack[1].function), "wait_for_work");
    EXPECT_TRUE(deadlocks(loop).empty());
}

TEST_P(Inspection, a_future_that_nobody_sets) {
    StuckProgram program("never set", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    EXPECT_TRUE(task(loop, "reader").waits_for.starts_with("Future 0x")) << task(loop, "reader").waits_for;
    EXPECT_EQ(waiters(loop, "reader"), std::set<std::string>{"Task-1"});
}

TEST_P(Inspection, a_busy_loop) {
    StuckProgram program("busy", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    const TaskView& spinner = task(loop, "spinner");
    EXPECT_EQ(spinner.state, "running");
    EXPECT_EQ(spinner.waits_for, "");
    ASSERT_EQ(spinner.stack.size(), 1u);
    EXPECT_EQ(short_function(spinner.stack[0].function), "spin");
    EXPECT_EQ(task(loop, "Task-1").state, "waiting");
    EXPECT_TRUE(program.alive());
}

TEST_P(Inspection, a_peer_that_stalls) {
    StuckProgram program("stalled peer", GetParam());
    std::string port = program.output().substr(0, program.output().find('\n'));
    Snapshot snapshot = snapshot_of_process(program.pid());
    const TaskView& client = task(only_loop(snapshot), "client");
    EXPECT_TRUE(client.waits_for.starts_with("StreamReader.readexactly, on descriptor ")) << client.waits_for;
    EXPECT_TRUE(client.waits_for.ends_with(" (to 127.0.0.1:" + port + ")")) << client.waits_for;
}

TEST_P(Inspection, a_forked_child_runs_no_loop_of_its_parents_other_threads) {
    StuckProgram program("forked", GetParam());
    Snapshot parent = snapshot_of_process(program.pid());
    ASSERT_EQ(parent.loops.size(), 2u);
    EXPECT_TRUE(parent.loops[0].running);
    EXPECT_TRUE(parent.loops[1].running);
    auto pid = static_cast<pid_t>(std::stol(program.output()));
    Snapshot child = snapshot_of_process(pid);
    ASSERT_EQ(child.loops.size(), 2u);
    const LoopView& own = child.loops[child.loops[0].running ? 0 : 1];
    EXPECT_EQ(own.thread, pid);
    EXPECT_EQ(task(own, "Task-1").stack.size(), 1u);
    EXPECT_TRUE(contains(show_table(child), ", not running, 1 task")) << show_table(child);
}

TEST_P(Inspection, who_awaits_whom) {
    StuckProgram program("family", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    using Names = std::set<std::string>;
    EXPECT_EQ(waiters(loop, "Task-1"), Names{});
    EXPECT_EQ(waiters(loop, "gatherer"), (Names{"Task-1", "for first"}));
    EXPECT_EQ(waiters(loop, "dozer"), (Names{"Task-1", "for first", "in time"}));
    EXPECT_EQ(waiters(loop, "in time"), Names{"Task-1"});
    EXPECT_EQ(task(loop, "Task-1").waits_for, "TaskGroup");
    EXPECT_EQ(task(loop, "gatherer").waits_for, "gather()");
    EXPECT_EQ(task(loop, "in time").waits_for, "shield(Task 'dozer')");
    EXPECT_EQ(task(loop, "for first").waits_for, "wait, 2 futures left");
    EXPECT_EQ(task(loop, "putter").waits_for, "Queue.put, 1 items");
    EXPECT_TRUE(task(loop, "dozer").waits_for.starts_with("sleep, for 3600s, due in 3"))
        << task(loop, "dozer").waits_for;
    auto gathered = std::ranges::count_if(loop.tasks, [&](const TaskView& child) {
        return child.awaited_by == std::vector<Address>{task(loop, "gatherer").id};
    });
    EXPECT_EQ(gathered, 2);

    std::string tree = show_tree(snapshot);
    EXPECT_TRUE(contains(tree, "└── (T) Task-1 waiting, ")) << tree;
    EXPECT_TRUE(contains(tree, "├── (T) gatherer waiting, ")) << tree;
    EXPECT_TRUE(contains(tree, "(T) dozer, see above")) << tree;
}

TEST_P(Inspection, ten_thousand_tasks) {
    StuckProgram program("many", GetParam());
    Snapshot snapshot = snapshot_of_process(program.pid());
    const LoopView& loop = only_loop(snapshot);
    EXPECT_EQ(loop.tasks.size(), 10'001u);
    EXPECT_EQ(waiters(loop, "sleeper 9999"), std::set<std::string>{"Task-1"});
    std::string tree = show_tree(snapshot);
    EXPECT_EQ(std::ranges::count(tree, '\n'), 1 + 1 + 3 + 3 * 10'000) << tree.substr(0, 1000);
}

TEST_P(Inspection, a_process_that_changes_all_the_time) {
    StuckProgram program("churn", GetParam());
    std::set<std::string> names{"Task-1", "churning", "churning with a name of its own"};
    std::set<std::string> states{"waiting", "ready", "running"};
    std::set<std::string> functions{"churn",        "take_some",    "pass_on",
                                    "QueueOf::get", "QueueOf::put", "gather_futures"};
    int failed = 0;
    for (int i = 0; i < 1500; ++i) {
        Snapshot snapshot;
        try {
            snapshot = snapshot_of_process(program.pid());
        } catch (const Failure&) {  // it says so
            ++failed;
            continue;
        }
        for (const TaskView& seen : only_loop(snapshot).tasks) {
            ASSERT_TRUE(names.contains(seen.name)) << seen.name;
            ASSERT_TRUE(states.contains(seen.state)) << seen.state;
            for (const Frame& frame : seen.stack)
                ASSERT_TRUE(functions.contains(short_function(frame.function))) << frame.function;
        }
        show_tree(snapshot);
    }
    EXPECT_LE(failed, 15);
    EXPECT_TRUE(program.alive());
}

INSTANTIATE_TEST_SUITE_P(Backends, Inspection, testing::Values("epoll", "uring"),
                         [](const auto& of) { return std::string(of.param); });

// ---- the program

class CoilProgram : public testing::Test {
  protected:
    void SetUp() override {
        if (!may_trace()) GTEST_SKIP() << "processes may not be traced here";
    }
};

TEST_F(CoilProgram, shows_a_table_a_tree_and_json) {
    StuckProgram program("locks");
    std::string pid = std::to_string(program.pid());
    auto table = run_command({COIL_PROGRAM, "ps", pid});
    EXPECT_EQ(table.exit_code, 0);
    EXPECT_TRUE(contains(table.output, "task    state    age ")) << table.output;
    EXPECT_TRUE(contains(table.output, "Lock.acquire, held by Task 'b to a'  Task-1\n")) << table.output;
    EXPECT_FALSE(contains(table.output, "\x1b")) << "colours without a terminal";

    auto tree = run_command({COIL_PROGRAM, "pstree", pid});
    EXPECT_EQ(tree.exit_code, 0);
    EXPECT_TRUE(contains(tree.output, "│   └── locks stuck.cpp:")) << tree.output;

    auto json = run_command({COIL_PROGRAM, "ps", "--json", pid});
    EXPECT_EQ(json.exit_code, 0);
    EXPECT_TRUE(contains(json.output, "\"waits_for\": \"Lock.acquire, held by Task 'b to a'\""))
        << json.output;
}

TEST_F(CoilProgram, reads_a_core_file) {
    if (!core_files_are_small()) GTEST_SKIP() << "a sanitizer's shadow memory would be in the core file";
    StuckProgram program("locks");
    auto folder = std::filesystem::temp_directory_path() / ("coil-core-" + std::to_string(::getpid()));
    std::filesystem::create_directory(folder);
    auto dumped = run_command({"gdb", "-p", std::to_string(program.pid()), "-batch", "-nx", "-ex",
                               "generate-core-file " + (folder / "core").string()});
    auto table = run_command({COIL_PROGRAM, "ps", (folder / "core").string()});
    std::filesystem::remove_all(folder);
    EXPECT_EQ(table.exit_code, 0) << dumped.output;
    EXPECT_TRUE(contains(table.output, "Lock.acquire, held by Task 'b to a'"))
        << table.output << dumped.output;
}

TEST_F(CoilProgram, says_clearly_what_does_not_work) {
    auto nobody = run_command({COIL_PROGRAM, "ps", "999999999"});
    EXPECT_EQ(nobody.exit_code, 1);
    EXPECT_EQ(nobody.output, "coil: there is no process 999999999\n");
    auto other = run_command({COIL_PROGRAM, "ps", std::to_string(::getppid())});
    EXPECT_EQ(other.exit_code, 1);
    auto self = run_command({COIL_PROGRAM, "pstree", COIL_PROGRAM});
    EXPECT_EQ(self.exit_code, 1);
    EXPECT_TRUE(contains(self.output, "is no core file")) << self.output;
    auto missing = run_command({COIL_PROGRAM, "ps", "/does/not/exist"});
    EXPECT_EQ(missing.exit_code, 1);
    EXPECT_EQ(missing.output, "coil: cannot open '/does/not/exist': No such file or directory\n");
    for (const std::vector<std::string>& misuse :
         std::vector<std::vector<std::string>>{{COIL_PROGRAM},
                                               {COIL_PROGRAM, "ps"},
                                               {COIL_PROGRAM, "ps", "1", "2"},
                                               {COIL_PROGRAM, "dance"},
                                               {COIL_PROGRAM, "ps", "--what", "1"}}) {
        auto result = run_command(misuse);
        EXPECT_EQ(result.exit_code, 2);
        EXPECT_TRUE(contains(result.output, "usage: coil ps")) << result.output;
    }
}

TEST(ShortFunction, is_the_name_without_the_rest) {
    EXPECT_EQ(short_function("coil::Coro<> worker(Queue &, int)"), "worker");
    EXPECT_EQ(short_function("Coro<> (anonymous namespace)::worker(int)"), "worker");
    EXPECT_EQ(short_function("coil::Coro<std::vector<int> > app::Client::fetch(std::string)"),
              "app::Client::fetch");
    EXPECT_EQ(
        short_function("Coro<T> coil::detail::QueueOf<int, coil::detail::FifoItems<int>>::get() [T = int]"),
        "QueueOf::get");
    EXPECT_EQ(short_function("coil::Coro<void> coil::{anonymous}::read_until(int)"), "read_until");
    EXPECT_EQ(short_function("main()::<lambda(int)>"), "main");
    EXPECT_EQ(short_function("no parenthesis"), "no parenthesis");
}

}  // namespace
