// coil's script for gdb: its commands on processes and core files, and what gdb prints of coil's objects.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "debug/stuck_program.hpp"
#include "support/text.hpp"
#include "tools/coil/snapshot.hpp"

namespace {

using namespace coil::tools;
using support::contains;
using Strings = std::vector<std::string>;

/// What gdb prints, errors too. `target`: its arguments.
std::string run_gdb(const Strings& target, const Strings& commands) {
    Strings arguments{"env",          "COIL_PROGRAM=" COIL_PROGRAM, "gdb", "-q", "-batch", "-nx", "-x",
                      COIL_GDB_SCRIPT};
    arguments.insert(arguments.end(), target.begin(), target.end());
    for (const std::string& command : commands) {
        arguments.emplace_back("-ex");
        arguments.push_back(command);
    }
    return run_command(arguments).output;
}

std::string run_gdb_on(const StuckProgram& program, const Strings& commands) {
    return run_gdb({"-p", std::to_string(program.pid())}, commands);
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
    return found;
}

std::string line_of(const TaskView& task, std::size_t frame) {
    return std::to_string(task.stack.at(frame).line);
}

class Folder {
  public:
    explicit Folder(const std::string& name)
        : path_(std::filesystem::temp_directory_path() / fmt::format("{}-{}", name, ::getpid())) {
        std::filesystem::create_directory(path_);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path_); }
    const std::filesystem::path& path() const noexcept { return path_; }

  private:
    std::filesystem::path path_;
};

class Gdb : public testing::Test {
  protected:
    void SetUp() override {
        if (!may_trace()) GTEST_SKIP() << "processes may not be traced here";
    }
    static TaskView task(const StuckProgram& program, const std::string& name) {
        Snapshot snapshot = snapshot_of_process(program.pid());
        const auto& tasks = snapshot.loops.at(0).tasks;
        auto found = std::ranges::find(tasks, name, &TaskView::name);
        if (found == tasks.end()) throw std::runtime_error("no task '" + name + "'");
        return *found;
    }
};

class GdbOnBackends : public Gdb, public testing::WithParamInterface<const char*> {};

TEST_P(GdbOnBackends, shows_a_table_and_a_tree) {
    StuckProgram program("locks", GetParam());
    std::string output = run_gdb_on(program, {"coil tasks", "coil tree"});
    EXPECT_TRUE(contains(output, "task    state    age ")) << output;
    EXPECT_TRUE(contains(output, "Lock.acquire, held by Task 'b to a'  Task-1\n")) << output;
    EXPECT_TRUE(contains(output, "│   └── locks stuck.cpp:")) << output;
    EXPECT_TRUE(program.alive());
}

TEST_P(GdbOnBackends, shows_the_coroutines_of_a_task_innermost_first) {
    StuckProgram program("lost wake-up", GetParam());
    TaskView worker = task(program, "worker");
    std::string trace = fmt::format(
        "Task 'worker' ({:#x}), waiting\n"
        "#0  Condition::wait () at locks.cpp:{}\n"
        "#1  wait_for_work () at stuck.cpp:{}\n"
        "waits for Condition.wait\n"
        "awaited by 'Task-1'\n"
        "created in lost_wake_up () at stuck.cpp:{}\n",
        worker.id, line_of(worker, 0), line_of(worker, 1), worker.created_at.value().line);
    std::string output = run_gdb_on(program, {"coil bt worker", fmt::format("coil bt {:#x}", worker.id)});
    EXPECT_EQ(count(output, trace), 2u) << trace << output;
}

INSTANTIATE_TEST_SUITE_P(Backends, GdbOnBackends, testing::Values("epoll", "uring"),
                         [](const auto& of) { return std::string(of.param); });

TEST_F(Gdb, finds_tasks_with_spaces_in_their_names) {
    StuckProgram program("locks");
    std::string output = run_gdb_on(program, {"coil bt a to b", "coil bt 'a to b'", "coil bt \"a to b\" "});
    EXPECT_EQ(count(output, "#0  take_both () at stuck.cpp:"), 3u) << output;
    EXPECT_EQ(count(output, "waits for Lock.acquire, held by Task 'b to a'\n"), 3u) << output;
}

TEST_F(Gdb, says_which_tasks_may_be_meant) {
    StuckProgram program("objects");
    std::string output = run_gdb_on(program, {"coil bt taker", "coil bt patent", "coil bt 0x123", "coil bt"});
    EXPECT_TRUE(contains(output, "coil: 2 tasks have the name 'taker': 0x")) << output;
    EXPECT_TRUE(contains(output, fmt::format("{:#x}", task(program, "taker").id))) << output;
    EXPECT_TRUE(contains(output, "coil: there is no task 'patent': is it 'patient'?\n")) << output;
    EXPECT_TRUE(contains(output, "coil: there is no task '0x123': `coil tasks` lists them\n")) << output;
    EXPECT_TRUE(contains(output, "coil: which task?")) << output;
}

TEST_F(Gdb, shortens_the_names_of_functions_as_the_program_does) {
    const Strings functions = {
        "coil::Coro<> worker(Queue &, int)",
        "Coro<> (anonymous namespace)::worker(int)",
        "coil::Coro<std::vector<int> > app::Client::fetch(std::string)",
        "Coro<T> coil::detail::QueueOf<int, coil::detail::FifoItems<int>>::get() [T = int]",
        "coil::Coro<void> coil::{anonymous}::read_until(int)",
        "main()::<lambda(int)>",
        "no parenthesis",
    };
    Strings commands;
    std::string expected;
    for (const std::string& function : functions) {
        commands.push_back("python print(short_function('" + function + "'))");
        expected += short_function(function) + "\n";
    }
    EXPECT_EQ(run_gdb({}, commands), expected);
}

TEST_F(Gdb, reads_a_core_file_that_it_has_opened) {
    if (!core_files_are_small()) GTEST_SKIP() << "a sanitizer's shadow memory would be in the core file";
    Folder folder("coil's core, file");
    std::string core = folder.path() / "core";
    std::string dumped;
    {
        StuckProgram program("locks");
        dumped = run_gdb_on(program, {"generate-core-file " + core});
    }
    for (const Strings& target : std::vector<Strings>{{"-c", core}, {COIL_STUCK_PROGRAM, "-c", core}}) {
        std::string output = run_gdb(target, {"coil tasks", "coil bt b to a"});
        EXPECT_TRUE(contains(output, "deadlock: 'a to b' waits for 'b to a' waits for 'a to b'\n"))
            << output << dumped;
        EXPECT_TRUE(contains(output, "#0  take_both () at stuck.cpp:")) << output << dumped;
    }
}

TEST_F(Gdb, says_clearly_what_does_not_work) {
    std::string output = run_gdb({}, {"coil tasks", "coil tree here", "coil dance"});
    EXPECT_EQ(output,
              "coil: there is no process and no core file\n"
              "coil: `coil tree` takes no arguments\n"
              "coil: unknown command 'dance'; `help coil` lists what there is\n");
    output = run_gdb({"/bin/sleep"}, {"starti 100", "coil tasks"});
    EXPECT_TRUE(contains(output, "is no program with coil")) << output;
}

TEST_F(Gdb, says_which_program_does_not_work) {
    StuckProgram program("locks");
    auto environment = [](const std::string& path) {
        return "python os.environ['COIL_PROGRAM'] = '" + path + "'";
    };
    std::string output =
        run_gdb_on(program, {environment("/does/not/exist"), "coil tasks", environment("/bin/false"),
                             "coil tasks", "set coil-program /not/there", "coil tasks",
                             "set coil-program " COIL_PROGRAM, "show coil-program", "coil tree"});
    EXPECT_TRUE(
        contains(output, "coil: the environment's COIL_PROGRAM is '/does/not/exist', which is no program\n"))
        << output;
    EXPECT_TRUE(contains(output, "coil: /bin/false failed: exit status 1\n")) << output;
    EXPECT_TRUE(contains(output, "coil: the parameter coil-program is '/not/there', which is no program\n"))
        << output;
    EXPECT_TRUE(contains(output, "The program is " COIL_PROGRAM ".\n")) << output;
    EXPECT_TRUE(contains(output, "(T) a to b waiting")) << output;
}

// ---- objects

class GdbPrints : public Gdb {
  protected:
    /// What `print` says of each expression: without its number, and with N for what differs from run to run.
    static Strings printed(const Strings& expressions) {
        StuckProgram program("objects");
        Strings commands{"set language c++"};
        for (const std::string& expression : expressions) commands.push_back("print " + expression);
        output_ = run_gdb_on(program, commands);
        Strings values;
        std::istringstream lines(output_);
        std::smatch match;
        for (std::string line; std::getline(lines, line);) {
            if (std::regex_match(line, match, std::regex("\\$[0-9]+ = (.*)")))
                values.push_back(
                    std::regex_replace(match[1].str(), std::regex("(descriptor|at) [0-9.]+s?"), "$1 N"));
        }
        return values;
    }
    static bool without_debug_information() { return contains(output_, "'objects' has unknown type"); }
    static inline std::string output_;
};

TEST_F(GdbPrints, a_line_for_each_object) {
    const std::vector<std::pair<std::string, std::string>> rows = {
        {"no_task", "<Task empty>"},
        {"finished_task", "<Task 'fetch' finished, result 42>"},
        {"failed_task", "<Task 'failing' failed with coil::ValueError>"},
        {"cancelled_task", "<Task 'cancelled\\n' cancelled>"},
        {"waiting_task", "<Task 'patient' waiting>"},
        {"ready_task", "<Task 'prompt' ready>"},
        {"running_task", "<Task 'Task-1' running>"},
        {"view_of_task", "<Future of Task 'patient' waiting>"},
        {"no_future", "<Future empty>"},
        {"finished_future", "<Future finished, result \"good\">"},
        {"pending_future", "<Future pending>"},
        {"failed_future", "<Future failed with coil::OSError>"},
        {"future_of_reference", "<Future finished, result 7>"},
        {"moved_coro", "<Coro awaited>"},
        {"free_lock", "<Lock unlocked>"},
        {"taken_lock", "<Lock locked, 2 waiting>"},
        {"set_event", "<Event set>"},
        {"awaited_event", "<Event not set, 2 waiting>"},
        {"condition", "<Condition unlocked, 1 waiting>"},
        {"semaphore", "<Semaphore 2>"},
        {"bounded_semaphore", "<BoundedSemaphore 0 of 1>"},
        {"barrier", "<Barrier 1 of 3>"},
        {"broken_barrier", "<Barrier 0 of 2, broken>"},
        {"queue", "<Queue 3 of 10 items>"},
        {"endless_queue", "<Queue 0 items, 1 getting>"},
        {"priority_queue", "<PriorityQueue 1 of 1 items, 1 putting>"},
        {"lifo_queue", "<LifoQueue 1 items, shut down>"},
        {"group", "<TaskGroup 0 unfinished tasks, not entered>"},
        {"entered_group", "<TaskGroup 2 unfinished tasks>"},
        {"moved_group", "<TaskGroup empty>"},
        {"no_timeout", "<Timeout created>"},
        {"active_timeout[0]", "<Timeout active at N>"},
        {"value", "<Outcome result 42>"},
        {"text", "<Outcome result \"good\">"},
        {"nothing", "<Outcome finished>"},
        {"error", "<Outcome failed with coil::ValueError>"},
        {"cancellation", "<Outcome cancelled>"},
        {"reader", "<StreamReader 5 bytes, at the end>"},
        {"no_reader", "<StreamReader empty>"},
        {"writer", "<StreamWriter on descriptor N>"},
        {"no_writer", "<StreamWriter empty>"},
        {"address", "<SocketAddress ('127.0.0.1', 80)>"},
        {"no_handle", "<Handle empty>"},
        {"handle", "<Handle waiting>"},
        {"cancelled_handle", "<Handle cancelled>"},
        {"done_handle", "<Handle done>"},
        {"timer_handle", "<TimerHandle waiting, at N>"},
        {"loop[0]", "<EventLoop running, 16 tasks>"},
        {"errors", "<ExceptionGroup 'two errors': coil::ValueError, std::string>"},
    };
    Strings expressions{"objects->coro"};
    for (const auto& [name, text] : rows) expressions.push_back("objects->" + name);
    Strings values = printed(expressions);
    if (without_debug_information()) GTEST_SKIP() << "built without debug information";
    ASSERT_EQ(values.size(), expressions.size()) << output_;
    EXPECT_TRUE(values[0].starts_with("<Coro answer_later at objects.cpp:")) << values[0];
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(values[i + 1], rows[i].second) << rows[i].first;
}

TEST_F(GdbPrints, memory_that_is_no_object_yet) {
    const Strings types = {"Task<int>",  "Future<int>",   "Coro<int>",       "Lock",         "Event",
                           "Condition",  "Semaphore",     "Barrier",         "Queue<int>",   "LifoQueue<int>",
                           "TaskGroup",  "Timeout",       "StreamReader",    "StreamWriter", "SocketAddress",
                           "Handle",     "TimerHandle",   "Outcome<int>",    "EventLoop",    "ExceptionGroup",
                           "Task<void>", "Outcome<void>", "BoundedSemaphore"};
    Strings expressions;
    for (const std::string& type : types) {
        for (const char* memory : {"zeros", "rubbish", "pointers"})
            expressions.push_back(fmt::format("*(coil::{}*)objects->{}", type, memory));
    }
    expressions.push_back("*(coil::Lock*)16");
    Strings values = printed(expressions);
    if (without_debug_information()) GTEST_SKIP() << "built without debug information";
    ASSERT_EQ(values.size(), expressions.size() - 1) << output_;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::string& type = types[i / 3];
        // gdb may warn of objects with virtual functions first, on the same line.
        EXPECT_TRUE(contains(values[i], "<" + type.substr(0, type.find('<')) + " ") ||
                    values[i].starts_with("warning: "))
            << expressions[i] << ": " << values[i];
    }
    EXPECT_FALSE(contains(output_, "Python Exception")) << output_;
    EXPECT_FALSE(contains(output_, "Traceback")) << output_;
    EXPECT_TRUE(contains(output_, "Cannot access memory at address 0x10")) << output_;
}

}  // namespace
