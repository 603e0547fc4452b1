#include "coil/process_pool.hpp"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace worker {

int add(int a, int b) { return a + b; }
int pid() { return ::getpid(); }
void nothing() {}

struct Point {
    int x = 0;
    std::string name;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(x, name);
    }
};
std::map<std::string, Point> points(const std::vector<std::string>& names) {
    std::map<std::string, Point> all;
    for (const std::string& name : names) all[name] = {static_cast<int>(name.size()), name + "!"};
    return all;
}
std::string long_text(std::size_t size, char letter) { return std::string(size, letter); }

struct OwnError : std::runtime_error {
    using std::runtime_error::runtime_error;
};
void fail(int how) {
    switch (how) {
        case 0:
            throw ValueError("a value");
        case 1:
            throw_os_error(ENOENT, "No such file or directory: 'x'");
        case 2:
            throw std::domain_error("a domain");
        case 3:
            throw OwnError("of its own");
        case 4:
            throw TimeoutError("too late");
        case 5:
            throw std::bad_alloc();
        default:
            throw how;
    }
}

int prepared = 0;
void prepare() { prepared = 7; }
int is_prepared() { return prepared; }
void cannot_prepare() { throw ValueError("no"); }

/// Until somebody writes the file.
void wait_for(const std::string& file) {
    while (::access(file.c_str(), F_OK) != 0) ::usleep(1000);
}
void crash() { ::raise(SIGKILL); }
void leave() { ::_exit(3); }

/// Gives the number of a program that goes on by itself.
int leave_a_program_behind() {
    FILE* shell = ::popen("sleep 1000 >/dev/null 2>&1 </dev/null & echo $!", "r");
    int number = 0;
    if (std::fscanf(shell, "%d", &number) != 1) number = 0;
    ::pclose(shell);
    return number;
}

int open_descriptors() {
    int count = 0;
    DIR* folder = ::opendir("/proc/self/fd");
    while (::readdir(folder)) ++count;
    ::closedir(folder);
    return count - 3;  // ".", ".." and the folder's own
}

}  // namespace worker

namespace {

bool has_children() {
    siginfo_t info{};
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

class ProcessPool : public ::testing::Test {
  protected:
    void TearDown() override {
        EXPECT_EQ(open_fds(), fds_);
        EXPECT_FALSE(has_children());
    }

  private:
    std::size_t fds_ = open_fds();
};

const char* const BROKEN =
    "BrokenProcessPool: A process in the process pool was terminated abruptly while the future was running "
    "or "
    "pending.";

TEST_F(ProcessPool, calls_functions_with_all_kinds_of_values) {
    ProcessPoolExecutor pool(2);
    EXPECT_EQ(pool.submit(process_function<worker::add>, 1, 2).result(), 3);
    EXPECT_NE(pool.submit(process_function<worker::pid>).result(), ::getpid());
    pool.submit(process_function<worker::nothing>).result();
    auto points =
        pool.submit(process_function<worker::points>, std::vector<std::string>{"a", "bcd"}).result();
    EXPECT_EQ(points.size(), 2u);
    EXPECT_EQ(points.at("bcd").x, 3);
    EXPECT_EQ(points.at("bcd").name, "bcd!");
    auto text = pool.submit(process_function<worker::long_text>, 5'000'000, 'x').result();
    EXPECT_EQ(text, std::string(5'000'000, 'x'));
    EXPECT_EQ(process_function<worker::add>(4, 5), 9);  // here
}

TEST_F(ProcessPool, exceptions_travel) {
    ProcessPoolExecutor pool(1);
    const char* const expected[] = {
        "ValueError: a value",    "FileNotFoundError: [Errno 2] No such file or directory: 'x'",
        "domain_error: a domain", "RuntimeError: worker::OwnError: of its own",
        "TimeoutError: too late", "bad_alloc: std::bad_alloc",
    };
    for (int how = 0; how < 6; ++how) {
        auto future = pool.submit(process_function<worker::fail>, how);
        EXPECT_EQ(thrown_by([&] { future.result(); }), expected[how]);
    }
    auto odd = pool.submit(process_function<worker::fail>, 77);
    EXPECT_THROW(odd.result(), RuntimeError);
    EXPECT_EQ(pool.submit(process_function<worker::add>, 1, 1).result(), 2);  // the worker is as before
}

TEST_F(ProcessPool, misuse_is_told) {
    EXPECT_EQ(thrown_by([] { ProcessPoolExecutor none(0); }),
              "ValueError: max_workers must be greater than 0");
    EXPECT_EQ(thrown_by([] { ProcessPoolExecutor none(1, {.max_tasks_per_child = 0}); }),
              "ValueError: max_tasks_per_child must be >= 1");
    ProcessPoolExecutor pool(1);
    EXPECT_EQ(thrown_by([&] { static_cast<void>(pool.submit([] {})); }),
              "TypeError: a worker process can call a coil::process_function only");
    pool.shutdown();
    EXPECT_EQ(thrown_by([&] { static_cast<void>(pool.submit(process_function<worker::pid>)); }),
              "RuntimeError: cannot schedule new futures after shutdown");
}

TEST_F(ProcessPool, a_worker_has_the_standard_streams_and_its_channel_open) {
    ProcessPoolExecutor pool(1);
    EXPECT_EQ(pool.submit(process_function<worker::open_descriptors>).result(), 4);
}

TEST_F(ProcessPool, a_worker_is_used_again_and_replaced_after_so_many_calls) {
    ProcessPoolExecutor pool(1);
    int first = pool.submit(process_function<worker::pid>).result();
    EXPECT_EQ(pool.submit(process_function<worker::pid>).result(), first);
    ProcessPoolExecutor replacing(1, {.max_tasks_per_child = 2});
    std::vector<int> pids;
    for (int i = 0; i < 6; ++i) pids.push_back(replacing.submit(process_function<worker::pid>).result());
    EXPECT_EQ(std::set<int>(pids.begin(), pids.end()).size(), 3u);
    EXPECT_EQ(pids[0], pids[1]);
    EXPECT_NE(pids[1], pids[2]);
}

TEST_F(ProcessPool, an_initializer_runs_first) {
    ProcessPoolExecutor pool(1, {.initializer = process_function<worker::prepare>});
    EXPECT_EQ(pool.submit(process_function<worker::is_prepared>).result(), 7);
    LogRecorder log;
    ProcessPoolExecutor broken(1, {.initializer = process_function<worker::cannot_prepare>});
    auto future = broken.submit(process_function<worker::is_prepared>);
    EXPECT_EQ(thrown_by([&] { future.result(); }), BROKEN);
    EXPECT_EQ(log.count("ValueError: no"), 1u) << log.str();
}

TEST_F(ProcessPool, a_worker_that_crashes_breaks_the_pool) {
    for (bool killed : {true, false}) {
        ProcessPoolExecutor pool(2);
        std::string never = "/no/such/file";
        auto running = pool.submit(process_function<worker::wait_for>, never);
        auto crashing = killed ? pool.submit(process_function<worker::crash>)
                               : pool.submit(process_function<worker::leave>);
        std::vector<concurrent::Future<>> queued;
        for (int i = 0; i < 5; ++i) queued.push_back(pool.submit(process_function<worker::wait_for>, never));
        EXPECT_EQ(thrown_by([&] { crashing.result(); }), BROKEN);
        EXPECT_EQ(thrown_by([&] { running.result(); }), BROKEN);
        for (auto& future : queued) EXPECT_EQ(thrown_by([&] { future.result(); }), BROKEN);
        EXPECT_EQ(thrown_by([&] { static_cast<void>(pool.submit(process_function<worker::pid>)); }),
                  "BrokenProcessPool: A child process terminated abruptly, the process pool is not usable "
                  "anymore");
    }
}

TEST_F(ProcessPool, a_crash_is_seen_whatever_the_worker_has_started) {
    ProcessPoolExecutor pool(1);
    int program = pool.submit(process_function<worker::leave_a_program_behind>).result();
    ASSERT_GT(program, 0);
    auto crashing = pool.submit(process_function<worker::crash>);
    EXPECT_EQ(thrown_by([&] { crashing.result(); }), BROKEN);
    EXPECT_EQ(::kill(program, SIGKILL), 0);
}

TEST_F(ProcessPool, workers_can_be_killed) {
    for (auto end : {&ProcessPoolExecutor::terminate_workers, &ProcessPoolExecutor::kill_workers}) {
        ProcessPoolExecutor pool(1);
        pool.submit(process_function<worker::nothing>).result();
        auto running = pool.submit(process_function<worker::wait_for>, std::string("/no/such/file"));
        while (!running.running()) ::usleep(1000);
        (pool.*end)();
        EXPECT_EQ(thrown_by([&] { running.result(); }), BROKEN);
    }
}

TEST_F(ProcessPool, shutdown_waits_or_cancels) {
    ProcessPoolExecutor pool(1);
    std::vector<concurrent::Future<int>> futures;
    for (int i = 0; i < 20; ++i) futures.push_back(pool.submit(process_function<worker::add>, i, 1));
    pool.shutdown();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].result(), i + 1);
    ProcessPoolExecutor hurried(1);
    std::vector<concurrent::Future<int>> begun;
    for (int i = 0; i < 20; ++i) begun.push_back(hurried.submit(process_function<worker::add>, i, 1));
    hurried.shutdown({.cancel_futures = true});
    EXPECT_TRUE(begun.back().cancelled());
}

TEST_F(ProcessPool, map_keeps_the_order) {
    ProcessPoolExecutor pool(2);
    std::vector<std::string> texts;
    for (auto& points : pool.map(process_function<worker::points>,
                                 std::vector<std::vector<std::string>>{{"one"}, {"three"}}))
        texts.push_back(points.begin()->second.name);
    EXPECT_EQ(texts, (std::vector<std::string>{"one!", "three!"}));
}

class ProcessPoolInLoops : public OnBackend {};
ON_EVERY_BACKEND(ProcessPoolInLoops);

TEST_P(ProcessPoolInLoops, a_loop_goes_on_beside_its_workers_and_after_a_crash) {
    std::size_t fds = open_fds();
    coil::run(
        []() -> Coro<> {
            auto& loop = get_running_loop();
            {
                ProcessPoolExecutor pool(2);
                EXPECT_EQ(co_await loop.run_in_executor(&pool, process_function<worker::add>, 2, 3), 5);
                auto crashing = loop.run_in_executor(&pool, process_function<worker::crash>);
                EXPECT_EQ(co_await thrown_by_await(std::move(crashing)), BROKEN);
            }
            ProcessPoolExecutor another(1);
            EXPECT_EQ(co_await loop.run_in_executor(&another, process_function<worker::add>, 3, 3), 6);
            auto cancelled = loop.run_in_executor(&another, process_function<worker::pid>);
            cancelled.cancel();
            EXPECT_EQ(co_await thrown_by_await(std::move(cancelled)), "CancelledError");
        }(),
        {.loop_factory = factory()});
    EXPECT_EQ(open_fds(), fds);
    EXPECT_FALSE(has_children());
}

}  // namespace
