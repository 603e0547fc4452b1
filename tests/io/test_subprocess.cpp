#include "coil/subprocess.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/certificates.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

/// Whether this process has children, dead or alive.
bool has_children() {
    siginfo_t info{};
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

class Subprocesses : public OnBackend {
  protected:
    /// As coil::run; afterwards as many descriptors are open as before, and no child is left.
    template <class T>
    T run(Coro<T> coro) {
        struct Check {
            std::size_t fds = open_fds();
            ~Check() {
                EXPECT_EQ(open_fds(), fds);
                EXPECT_FALSE(has_children());
            }
        } check;
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(Subprocesses);

Coro<std::string> output_of(std::string command, SubprocessOptions options = {}) {
    options.stdout_ = PIPE;
    Process p = co_await create_subprocess_shell(std::move(command), options);
    auto [out, err] = co_await p.communicate();
    EXPECT_EQ(p.returncode(), 0);
    co_return *out;
}

// ---- the program

TEST_P(Subprocesses, a_program_that_cannot_be_started_is_an_error) {
    run([]() -> Coro<> {
        TemporaryDirectory directory;
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("no-such-program-anywhere")),
                  "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program-anywhere'");
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("/no/such")),
                  "FileNotFoundError: [Errno 2] No such file or directory: '/no/such'");
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("/etc/passwd")),
                  "PermissionError: [Errno 13] Permission denied: '/etc/passwd'");
        std::string garbage = directory.path("garbage");
        int fd = ::open(garbage.c_str(), O_CREAT | O_WRONLY, 0755);
        EXPECT_EQ(::write(fd, "\1\2\3", 3), 3);
        ::close(fd);
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec(garbage)),
                  "OSError: [Errno 8] Exec format error: '" + garbage + "'");
        SubprocessOptions elsewhere{.cwd = "/no/such/folder"};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, elsewhere)),
                  "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/folder'");
    }());
}

TEST_P(Subprocesses, what_cannot_be_meant_is_an_error) {
    run([]() -> Coro<> {
        std::string nul("a\0b", 3);
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec(nul)), "ValueError: embedded null byte");
        SubprocessOptions stdout_to_stdout{.stdout_ = STDOUT};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, stdout_to_stdout)),
                  "ValueError: STDOUT can only be used for stderr");
        SubprocessOptions negative{.stdin_ = -7};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, negative)),
                  "ValueError: a file descriptor is not negative");
        SubprocessOptions closed{.stdin_ = 987};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, closed)),
                  "OSError: [Errno 9] Bad file descriptor");
        SubprocessOptions no_limit{.limit = 0};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, no_limit)),
                  "ValueError: Limit cannot be <= 0");
        std::map<std::string, std::string> bad{{"A=B", "x"}};
        SubprocessOptions bad_name{.env = bad};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, bad_name)),
                  "ValueError: illegal environment variable name");
        SubprocessOptions nobody{.user = "no-such-user"};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, nobody)),
                  "ValueError: there is no user 'no-such-user'");
        SubprocessOptions no_group{.group = "no-such-group"};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, no_group)),
                  "ValueError: there is no group 'no-such-group'");
    }());
}

TEST_P(Subprocesses, arguments_arrive_as_they_are) {
    run([]() -> Coro<> {
        std::vector<std::string> args;
        args.emplace_back("%s|");
        args.emplace_back("two words");
        args.emplace_back("");
        args.emplace_back("$HOME *");
        Process p = co_await create_subprocess_exec("printf", std::move(args), {.stdout_ = PIPE});
        auto [out, err] = co_await p.communicate();
        EXPECT_EQ(out, "two words||$HOME *|");
        EXPECT_FALSE(err.has_value());
    }());
}

TEST_P(Subprocesses, the_program_is_looked_up_in_the_child_s_path) {
    run([]() -> Coro<> {
        std::map<std::string, std::string> nowhere{{"PATH", "/no/such:/neither"}};
        SubprocessOptions options{.env = nowhere};
        EXPECT_EQ(co_await thrown_by_await(create_subprocess_exec("true", {}, options)),
                  "FileNotFoundError: [Errno 2] No such file or directory: 'true'");
        SubprocessOptions renamed{.stdout_ = PIPE, .executable = "/bin/sh"};
        std::vector<std::string> args;
        args.emplace_back("-c");
        args.emplace_back("echo $0");
        Process p = co_await create_subprocess_exec("another-name", std::move(args), renamed);
        auto [out, err] = co_await p.communicate();
        EXPECT_EQ(out, "another-name\n");
    }());
}

// ---- its surroundings

TEST_P(Subprocesses, environment_and_directory_are_the_child_s) {
    run([]() -> Coro<> {
        std::map<std::string, std::string> env{{"ONE", "1"}, {"PATH", "/bin:/usr/bin"}};
        EXPECT_EQ(co_await output_of("echo $ONE$HOME", {.env = env}), "1\n");
        std::vector<std::pair<std::string, std::string>> pairs;
        pairs.emplace_back("TWO", "2");
        EXPECT_EQ(co_await output_of("echo $TWO", {.env = pairs}), "2\n");
        EXPECT_EQ(co_await output_of("pwd", {.cwd = "/"}), "/\n");
        ::setenv("COIL_TEST_INHERITED", "yes", 1);
        EXPECT_EQ(co_await output_of("echo $COIL_TEST_INHERITED"), "yes\n");
        EXPECT_EQ(co_await output_of("umask", {.umask = 027}), "0027\n");
    }());
}

TEST_P(Subprocesses, options_may_go_before_the_call_is_awaited) {
    run([]() -> Coro<> {
        auto starting = [] {
            std::map<std::string, std::string> env{{"TEXT", "a text that is too long to be short"}};
            std::string directory = "/";
            return create_subprocess_shell("pwd; echo $TEXT",
                                           {.stdout_ = PIPE, .cwd = directory, .env = env});
        }();
        Process p = co_await std::move(starting);
        auto [out, err] = co_await p.communicate();
        EXPECT_EQ(out, "/\na text that is too long to be short\n");
    }());
}

TEST_P(Subprocesses, a_child_has_its_streams_and_nothing_else_open) {
    run([]() -> Coro<> {
        int inheritable = ::open("/dev/null", O_RDONLY);
        EXPECT_EQ(co_await output_of("ls /proc/self/fd | wc -l"), "4\n");  // ls has the folder open
        std::array<int, 1> passed{inheritable};
        std::string number = std::to_string(inheritable);
        EXPECT_EQ(
            co_await output_of("test -e /proc/self/fd/" + number + " && echo passed", {.pass_fds = passed}),
            "passed\n");
        EXPECT_EQ(co_await output_of("test -e /proc/self/fd/" + number + " && echo inherited",
                                     {.close_fds = false}),
                  "inherited\n");
        int own = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        std::array<int, 1> close_on_exec{own};
        EXPECT_EQ(co_await output_of("test -e /proc/self/fd/" + std::to_string(own) + " && echo passed",
                                     {.pass_fds = close_on_exec}),
                  "passed\n");
        EXPECT_EQ(::fcntl(own, F_GETFD), FD_CLOEXEC);
        ::close(own);
        ::close(inheritable);
    }());
}

TEST_P(Subprocesses, sessions_and_groups_are_new_on_demand) {
    run([]() -> Coro<> {
        auto ids = [](SubprocessOptions options) -> Coro<std::pair<bool, bool>> {
            options.stdin_ = PIPE;
            Process p = co_await create_subprocess_exec("cat", {}, options);
            std::pair<bool, bool> own(::getsid(p.pid()) == p.pid(), ::getpgid(p.pid()) == p.pid());
            p.stdin_().close();
            co_await p.wait();
            co_return own;
        };
        EXPECT_EQ(co_await ids({}), std::pair(false, false));
        EXPECT_EQ(co_await ids({.start_new_session = true}), std::pair(true, true));
        EXPECT_EQ(co_await ids({.process_group = 0}), std::pair(false, true));
    }());
}

TEST_P(Subprocesses, user_and_groups_can_be_given_up) {
    if (::getuid() != 0) GTEST_SKIP() << "needs root";
    run([]() -> Coro<> {
        std::array<Account, 2> groups{Account(7), Account("daemon")};
        SubprocessOptions options{.user = "nobody", .group = 65534, .extra_groups = groups};
        EXPECT_EQ(co_await output_of("id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '", options),
                  "65534\n65534\n1 7 65534 ");
        std::span<const Account> none;
        EXPECT_EQ(co_await output_of("id -G", {.extra_groups = none}), "0\n");
        EXPECT_EQ(::getuid(), 0u);
        EXPECT_EQ(co_await to_thread(&::getuid), 0u);
    }());
}

TEST_P(Subprocesses, a_function_can_be_called_in_the_child) {
    run([]() -> Coro<> {
        auto limit_files = [] {
            rlimit limit{17, 17};
            ::setrlimit(RLIMIT_NOFILE, &limit);
        };
        EXPECT_EQ(co_await output_of("ulimit -n", {.preexec_fn = limit_files}), "17\n");
        EXPECT_NE(co_await output_of("ulimit -n"), "17\n");
    }());
}

TEST_P(Subprocesses, signals_are_as_a_program_expects_them) {
    run([]() -> Coro<> {
        ::signal(SIGPIPE, SIG_IGN);
        ::signal(SIGUSR1, SIG_IGN);
        std::string ignored = "grep SigIgn /proc/self/status | tail -c 17";
        std::string blocked = "grep SigBlk /proc/self/status | tail -c 17";
        auto bit = [](int number) { return 1ull << (number - 1); };
        auto mask = [](const std::string& text) { return std::stoull(text, nullptr, 16); };
        auto restored = mask(co_await output_of(ignored));
        EXPECT_FALSE(restored & bit(SIGPIPE));
        EXPECT_TRUE(restored & bit(SIGUSR1));
        auto kept = mask(co_await output_of(ignored, {.restore_signals = false}));
        EXPECT_TRUE(kept & bit(SIGPIPE));
        EXPECT_EQ(mask(co_await output_of(blocked)), 0u);
        ::signal(SIGPIPE, SIG_DFL);
        ::signal(SIGUSR1, SIG_DFL);
    }());
}

TEST_P(Subprocesses, a_child_that_a_thread_of_a_pool_starts_can_be_terminated) {
    run([](LoopFactory make) -> Coro<> {
        auto start_and_terminate = [make] {
            auto in_a_loop = []() -> Coro<int> {
                Process p = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE});
                p.terminate();
                p.stdin_().close();  // its end, should it not be terminated
                co_return co_await p.wait();
            };
            return coil::run(in_a_loop(), {.loop_factory = make});
        };
        EXPECT_EQ(co_await to_thread(start_and_terminate), -SIGTERM);
    }(factory()));
}

TEST_P(Subprocesses, streams_can_be_files_and_swapped) {
    run([]() -> Coro<> {
        TemporaryDirectory directory;
        std::string path = directory.path("out");
        int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        Process p = co_await create_subprocess_shell("echo to the file; echo error >&2",
                                                     {.stdout_ = file, .stderr_ = STDOUT});
        EXPECT_EQ(co_await p.wait(), 0);
        EXPECT_FALSE(p.stdout_());
        EXPECT_EQ(co_await thrown_by_await([&]() -> Coro<> { co_await p.stdout_().read(); }()),
                  "RuntimeError: this StreamReader belongs to no stream");
        EXPECT_EQ(thrown_by([&] { p.stdin_().write("x"); }),
                  "RuntimeError: this StreamWriter belongs to no stream");
        std::array<char, 64> text{};
        EXPECT_EQ(::pread(file, text.data(), text.size(), 0), 18);
        EXPECT_STREQ(text.data(), "to the file\nerror\n");
        ::close(file);
        // The parent's 1 becomes the child's 2, and the other way round.
        SubprocessOptions swapped{.stdout_ = 2, .stderr_ = 1};
        Process q = co_await create_subprocess_shell(
            "test $(readlink /proc/self/fd/2) = " + std::string("$(readlink /proc/$PPID/fd/1)"), swapped);
        EXPECT_EQ(co_await q.wait(), 0);
    }());
}

// ---- its end

TEST_P(Subprocesses, return_codes_tell_exit_statuses_and_signals) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_shell("exit 7");
        EXPECT_EQ(co_await p.wait(), 7);
        EXPECT_EQ(p.returncode(), 7);
        Process killed = co_await create_subprocess_exec("sleep", std::vector<std::string>(1, "100"));
        EXPECT_FALSE(killed.returncode().has_value());
        killed.kill();
        EXPECT_EQ(co_await killed.wait(), -SIGKILL);
        Process terminated = co_await create_subprocess_exec("sleep", std::vector<std::string>(1, "100"));
        terminated.terminate();
        EXPECT_EQ(co_await terminated.wait(), -SIGTERM);
        for (auto act : {&Process::terminate, &Process::kill}) {
            EXPECT_EQ(thrown_by([&] { (terminated.*act)(); }),
                      "ProcessLookupError: [Errno 3] No such process");
        }
        EXPECT_EQ(thrown_by([&] { terminated.send_signal(SIGUSR1); }),
                  "ProcessLookupError: [Errno 3] No such process");
        Process other = co_await create_subprocess_exec("sleep", std::vector<std::string>(1, "100"));
        EXPECT_EQ(thrown_by([&] { other.send_signal(1234); }), "OSError: [Errno 22] Invalid argument");
        other.send_signal(SIGUSR1);
        EXPECT_EQ(co_await other.wait(), -SIGUSR1);
    }());
}

TEST_P(Subprocesses, any_number_may_wait_and_stop_waiting) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE});
        std::vector<Task<int>> waiting;
        for (int i = 0; i < 5; ++i) waiting.push_back(create_task(p.wait()));
        EXPECT_EQ(co_await thrown_by_await(wait_for(p.wait(), 1ms)), "TimeoutError: timed out");
        waiting[2].cancel();
        co_await turns(2);
        p.stdin_().close();
        for (std::size_t i = 0; i < 5; ++i) {
            if (i == 2) continue;
            EXPECT_EQ(co_await waiting[i], 0);
        }
        EXPECT_TRUE(waiting[2].cancelled());
    }());
}

TEST_P(Subprocesses, wait_does_not_wait_for_a_grandchild_that_holds_the_pipe) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_shell("sleep 100 & echo $!", {.stdout_ = PIPE});
        int grandchild = std::stoi(co_await p.stdout_().readline());
        EXPECT_EQ(co_await p.wait(), 0);
        EXPECT_FALSE(p.stdout_().at_eof());
        ::kill(grandchild, SIGKILL);
        EXPECT_EQ(co_await p.stdout_().read(), "");
    }());
}

TEST_P(Subprocesses, a_child_that_ignores_sigterm_is_killed) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_shell("trap '' TERM; echo ready; while :; do sleep 1; done",
                                                     {.stdout_ = PIPE});
        co_await p.stdout_().readline();
        p.terminate();
        EXPECT_EQ(co_await thrown_by_await(wait_for(p.wait(), 20ms)), "TimeoutError: timed out");
        p.kill();
        EXPECT_EQ(co_await p.wait(), -SIGKILL);
    }());
}

TEST_P(Subprocesses, a_status_that_somebody_else_has_taken_is_255) {
    LogRecorder log;
    run([](LogRecorder& seen) -> Coro<> {
        Process p = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE});
        p.kill();
        EXPECT_EQ(::waitpid(p.pid(), nullptr, 0), p.pid());
        EXPECT_EQ(co_await p.wait(), 255);
        EXPECT_EQ(seen.count("was read by somebody else: will report returncode 255"), 1u) << seen.str();
    }(log));
}

TEST_P(Subprocesses, with_sigchld_ignored_the_end_is_seen_all_the_same) {
    LogRecorder log;
    run([]() -> Coro<> {
        ::signal(SIGCHLD, SIG_IGN);
        Process p = co_await create_subprocess_exec("true");
        EXPECT_EQ(co_await p.wait(), 255);
        ::signal(SIGCHLD, SIG_DFL);
    }());
}

// ---- its pipes

TEST_P(Subprocesses, communicate_feeds_and_reads_at_once) {
    run([]() -> Coro<> {
        std::string much(3'000'000, 'm');
        Process p = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
        auto [out, err] = co_await p.communicate(much);
        EXPECT_EQ(out->size(), much.size());
        EXPECT_EQ(out, much);
        Process q = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
        auto [nothing, none] = co_await q.communicate();
        EXPECT_EQ(nothing, "");
        Process r = co_await create_subprocess_exec("true");
        EXPECT_EQ(co_await thrown_by_await(r.communicate("input")),
                  "ValueError: communicate(): there is input, but the child's standard input is no pipe");
        co_await r.wait();
    }());
}

TEST_P(Subprocesses, stderr_may_flood_while_stdout_is_read) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_shell("head -c 2000000 /dev/zero >&2; echo done",
                                                     {.stdout_ = PIPE, .stderr_ = PIPE});
        auto error = create_task(p.stderr_().read());
        EXPECT_EQ(co_await p.stdout_().readline(), "done\n");
        EXPECT_EQ((co_await error).size(), 2'000'000u);
        EXPECT_EQ(co_await p.wait(), 0);
        Process q = co_await create_subprocess_shell("head -c 2000000 /dev/zero >&2; echo done",
                                                     {.stdout_ = PIPE, .stderr_ = PIPE});
        auto [out, err] = co_await q.communicate();
        EXPECT_EQ(out, "done\n");
        EXPECT_EQ(err->size(), 2'000'000u);
    }());
}

TEST_P(Subprocesses, output_that_nobody_reads_waits_in_the_pipe) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_exec("yes", {}, {.stdout_ = PIPE, .limit = 1000});
        EXPECT_EQ(co_await p.stdout_().readline(), "y\n");
        co_await coil::sleep(20ms);
        EXPECT_FALSE(p.returncode().has_value());
        p.kill();
        EXPECT_EQ(co_await p.wait(), -SIGKILL);
        EXPECT_FALSE((co_await p.stdout_().read()).empty());
    }());
}

TEST_P(Subprocesses, a_child_that_closes_its_input_early_breaks_the_pipe_of_the_writer) {
    run([]() -> Coro<> {
        Process p = co_await create_subprocess_shell(
            "exec <&-; echo closed; cat >/dev/null <<E\nE\nsleep 100", {.stdin_ = PIPE, .stdout_ = PIPE});
        EXPECT_EQ(co_await p.stdout_().readline(), "closed\n");
        auto write_all = [](StreamWriter out) -> Coro<> {
            std::string chunk(100'000, 'x');
            for (int i = 0; i < 100; ++i) {
                out.write(chunk);
                co_await out.drain();
            }
        };
        std::string error = co_await thrown_by_await(write_all(p.stdin_()));
        EXPECT_TRUE(error.starts_with("BrokenPipeError") || error.starts_with("ConnectionResetError"))
            << error;
        p.kill();
        co_await p.wait();
    }());
}

TEST_P(Subprocesses, a_child_may_be_killed_while_communicate_runs) {
    run([]() -> Coro<> {
        Process p =
            co_await create_subprocess_shell("echo begun; exec sleep 100", {.stdin_ = PIPE, .stdout_ = PIPE});
        std::string much(1'000'000, 'm');
        auto talking = create_task(p.communicate(std::move(much)));
        co_await coil::sleep(5ms);
        EXPECT_FALSE(talking.done());
        p.kill();
        auto [out, err] = co_await talking;
        EXPECT_EQ(p.returncode(), -SIGKILL);
        EXPECT_TRUE(out == "begun\n" || out == "") << *out;
    }());
}

TEST_P(Subprocesses, pipes_can_be_made_larger) {
    run([]() -> Coro<> {
        EXPECT_EQ((co_await output_of("head -c 200000 /dev/zero", {.pipesize = 1 << 20})).size(), 200'000u);
        SubprocessOptions too_large{.stdout_ = PIPE, .pipesize = 2'000'000'000};
        auto error = co_await thrown_by_await(create_subprocess_exec("true", {}, too_large));
        EXPECT_NE(error, "nothing");
    }());
}

// ---- cancelled, closed, forgotten

TEST_P(Subprocesses, cancelling_the_start_kills_the_child) {
    run([]() -> Coro<> {
        for (int turns_before = 0; turns_before < 8; ++turns_before) {
            SubprocessOptions options{.stdin_ = PIPE, .stdout_ = PIPE, .stderr_ = PIPE};
            auto starting = create_task(create_subprocess_exec("cat", {}, options));
            co_await turns(turns_before);
            if (!starting.cancel()) {
                Process p = co_await starting;
                p.kill();
                co_await p.wait();
                continue;
            }
            EXPECT_EQ(co_await thrown_by_await(starting), "CancelledError");
            EXPECT_FALSE(has_children()) << turns_before;
        }
    }());
}

TEST_P(Subprocesses, a_loop_that_closes_kills_its_children) {
    LogRecorder log;
    run([]() -> Coro<> {
        for (int i = 0; i < 3; ++i)
            co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
    }());
    EXPECT_EQ(log.count("is killed: its loop was closed before it ended"), 3u) << log.str();
}

TEST_P(Subprocesses, a_handle_may_outlive_the_loop) {
    LogRecorder log;
    std::optional<Process> survivor;
    run([](std::optional<Process>& keep) -> Coro<> {
        keep = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
    }(survivor));
    EXPECT_EQ(survivor->returncode(), -SIGKILL);
    EXPECT_EQ(thrown_by([&] { survivor->kill(); }), "ProcessLookupError: [Errno 3] No such process");
    EXPECT_FALSE(survivor->stdin_());
    survivor->stdout_().at_eof();
}

TEST_P(Subprocesses, a_forgotten_child_goes_on) {
    run([]() -> Coro<> {
        TemporaryDirectory directory;
        std::string path = directory.path("written");
        co_await create_subprocess_shell("sleep 0.01; echo done > " + path);
        struct stat status{};
        while (::stat(path.c_str(), &status) < 0 || status.st_size == 0) co_await coil::sleep(1ms);
        while (has_children()) co_await coil::sleep(1ms);
    }());
}

TEST_P(Subprocesses, without_descriptors_nothing_is_started_and_nothing_leaks) {
    run([]() -> Coro<> {
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        std::size_t open = open_fds();
        for (rlim_t spare = 0; spare < 10; ++spare) {
            rlimit low{open + spare, before.rlim_max};
            ::setrlimit(RLIMIT_NOFILE, &low);
            SubprocessOptions options{.stdin_ = PIPE, .stdout_ = PIPE, .stderr_ = PIPE};
            auto outcome = co_await try_await(create_subprocess_exec("cat", {}, options));
            ::setrlimit(RLIMIT_NOFILE, &before);
            if (outcome) {
                Process p = std::move(outcome).value();
                co_await p.communicate();
            } else {
                EXPECT_TRUE(error_text(outcome.exception()).starts_with("OSError: [Errno 24]"))
                    << error_text(outcome.exception());
            }
        }
    }());
}

TEST_P(Subprocesses, five_hundred_run_at_once) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    constexpr rlim_t NEEDED = 2000;  // three for each, and what there is
    if (files.rlim_max < NEEDED) GTEST_SKIP() << "no more than " << files.rlim_max << " descriptors";
    files.rlim_cur = std::max(files.rlim_cur, NEEDED);
    ::setrlimit(RLIMIT_NOFILE, &files);
    run([]() -> Coro<> {
        auto one = [](int number) -> Coro<int> {
            Process p = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
            auto [out, err] = co_await p.communicate(std::to_string(number));
            EXPECT_EQ(p.returncode(), 0);
            co_return std::stoi(*out);
        };
        std::vector<Coro<int>> all;
        constexpr int COUNT = 500;
        for (int i = 0; i < COUNT; ++i) all.push_back(one(i));
        auto numbers = co_await gather(std::move(all));
        for (int i = 0; i < COUNT; ++i) EXPECT_EQ(numbers[static_cast<std::size_t>(i)], i);
    }());
}

TEST_P(Subprocesses, threads_may_start_children_of_loops_of_their_own) {
    LoopFactory make = factory();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([make] {
            coil::run(
                []() -> Coro<> {
                    for (int i = 0; i < 10; ++i) EXPECT_EQ(co_await output_of("echo x"), "x\n");
                }(),
                {.loop_factory = make});
        });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_FALSE(has_children());
}

// ---- transports and protocols

class Recorder : public SubprocessProtocol {
  public:
    void connection_made(std::shared_ptr<SubprocessTransport> t) override {
        transport = std::move(t);
        events.push_back("made");
    }
    void pipe_data_received(int fd, std::string_view data) override {
        received[static_cast<std::size_t>(fd)] += data;
        if (events.back() != "data " + std::to_string(fd)) events.push_back("data " + std::to_string(fd));
    }
    void pipe_connection_lost(int fd, std::exception_ptr error) override {
        events.push_back("pipe " + std::to_string(fd) + " " + error_text(error));
    }
    void process_exited() override {
        events.push_back("exited " + std::to_string(*transport->get_returncode()));
    }
    void connection_lost(std::exception_ptr error) override {
        events.push_back("lost " + error_text(error));
        lost.set_result();
    }
    bool saw(const std::string& event) const { return std::ranges::count(events, event) == 1; }

    std::shared_ptr<SubprocessTransport> transport;
    std::array<std::string, 3> received;
    std::vector<std::string> events;
    Future<> lost = get_running_loop().create_future();
};

TEST_P(Subprocesses, a_protocol_is_told_everything_in_order) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        auto factory = [] { return std::make_shared<Recorder>(); };
        auto [transport, protocol] =
            co_await loop.subprocess_shell(factory, "read x; echo out $x; echo err >&2; exit 3");
        EXPECT_GT(transport->get_pid(), 0);
        EXPECT_FALSE(transport->get_returncode().has_value());
        transport->get_pipe_transport(0)->write("text\n");
        co_await protocol->lost;
        EXPECT_EQ(protocol->received[1], "out text\n");
        EXPECT_EQ(protocol->received[2], "err\n");
        const auto& events = protocol->events;
        EXPECT_EQ(events.front(), "made");
        EXPECT_EQ(events.back(), "lost nothing");
        for (const char* event :
             {"data 1", "data 2", "pipe 0 nothing", "pipe 1 nothing", "pipe 2 nothing", "exited 3"})
            EXPECT_TRUE(protocol->saw(event)) << event;
        EXPECT_EQ(transport->get_returncode(), 3);
        EXPECT_EQ(transport->get_pipe_transport(5), nullptr);
        protocol->transport = nullptr;
    }());
}

TEST_P(Subprocesses, closing_a_transport_kills_the_child) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        auto factory = [] { return std::make_shared<Recorder>(); };
        std::vector<std::string> args(1, "100");
        auto [transport, protocol] = co_await loop.subprocess_exec(factory, "sleep", std::move(args));
        EXPECT_FALSE(transport->is_closing());
        transport->close();
        transport->close();
        EXPECT_TRUE(transport->is_closing());
        co_await protocol->lost;
        EXPECT_TRUE(protocol->saw("exited -9"));
        protocol->transport = nullptr;
    }());
}

TEST_P(Subprocesses, a_protocol_without_pipes_is_told_of_the_end) {
    run([]() -> Coro<> {
        auto& loop = get_running_loop();
        auto factory = [] { return std::make_shared<Recorder>(); };
        SubprocessOptions options{.stdin_ = DEVNULL, .stdout_ = DEVNULL, .stderr_ = INHERIT};
        auto [transport, protocol] = co_await loop.subprocess_exec(factory, "true", {}, options);
        co_await protocol->lost;
        EXPECT_EQ(protocol->events, (std::vector<std::string>{"made", "exited 0", "lost nothing"}));
        EXPECT_EQ(transport->get_pipe_transport(1), nullptr);
        protocol->transport = nullptr;
    }());
}

TEST_P(Subprocesses, what_a_protocol_throws_is_reported) {
    Reports reports;
    run([](Reports& seen) -> Coro<> {
        seen.record(get_running_loop());
        class Failing : public Recorder {
            void process_exited() override { throw ValueError("in process_exited"); }
        };
        auto factory = [] { return std::make_shared<Failing>(); };
        auto [transport, protocol] = co_await get_running_loop().subprocess_exec(factory, "true");
        co_await protocol->lost;
        protocol->transport = nullptr;
    }(reports));
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].error, "ValueError: in process_exited");
}

}  // namespace
