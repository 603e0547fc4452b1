// fork() by the program itself, beside loops and their threads.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/gate.hpp"
#include "support/run.hpp"

// The thread sanitizer forbids threads in a forked child.
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define NO_THREADS_IN_A_CHILD
#endif
#endif

using namespace coil;
using namespace support;

namespace {

class ForksAndThreads : public OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(ForksAndThreads);

Coro<int> number_from_a_thread() {
    auto give = [] { return 42; };
    co_return co_await to_thread(give);
}

/// So that threads of the default executor work, and others of them idle, until the end of the scope.
class BusyPool {
  public:
    Coro<> start() {
        for (int i = 0; i < 3; ++i) {
            tasks_.push_back(create_task(to_thread([gate = gate_] { gate->pass(); })));
        }
        EXPECT_EQ(co_await number_from_a_thread(), 42);
    }
    Coro<> end() {
        gate_->open();
        for (Task<>& task : tasks_) co_await task;
    }

  private:
    std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
    std::vector<Task<>> tasks_;
};

/// The exit code of a forked child that execs a shell.
int exit_code_of_exec() {
    pid_t pid = ::fork();
    if (pid == 0) {
        ::execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
        ::_exit(99);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::set<int> fds() {
    std::set<int> all;
    for (int fd = 0; fd < 4096; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0) all.insert(fd);
    }
    return all;
}

}  // namespace

TEST_P(ForksAndThreads, a_thread_of_the_default_executor_may_fork) {
    run([]() -> Coro<> {
        BusyPool pool;
        co_await pool.start();
        auto leave = [] { return in_child([] { return 7; }).exit_code; };
        EXPECT_EQ(co_await to_thread(leave), 7);
        EXPECT_EQ(co_await to_thread(exit_code_of_exec), 7);
        EXPECT_EQ(co_await number_from_a_thread(), 42);
        co_await pool.end();
    }());
}

TEST_P(ForksAndThreads, a_thread_beside_a_running_loop_may_fork_again_and_again) {
    std::atomic<bool> over{false};
    std::atomic<int> forks{0};
    std::thread forking([&] {
        while (!over) {
            pid_t pid = ::fork();
            if (pid == 0) ::_exit(7);
            int status = 0;
            EXPECT_EQ(::waitpid(pid, &status, 0), pid);
            EXPECT_EQ(WEXITSTATUS(status), 7);
            ++forks;
        }
    });
    run([](std::atomic<int>& count) -> Coro<> {
        for (int i = 0; i < 40 || count < 20; ++i) {
            EXPECT_EQ(co_await number_from_a_thread(), 42);
            SubprocessOptions options{.stdin_ = PIPE, .stdout_ = PIPE};
            auto cat = co_await create_subprocess_exec("cat", {}, options);
            auto [out, err] = co_await cat.communicate("text");
            EXPECT_EQ(out, "text");
            EXPECT_EQ(cat.returncode(), 0);
        }
    }(forks));
    over = true;
    forking.join();
}

#ifndef NO_THREADS_IN_A_CHILD
TEST_P(ForksAndThreads, a_child_of_the_executors_may_run_a_loop_of_its_own) {
    run([](LoopFactory factory) -> Coro<> {
        BusyPool pool;
        co_await pool.start();
        auto fork_and_run = [&factory] {
            return in_child([&] { return coil::run(number_from_a_thread(), {.loop_factory = factory}); });
        };
        ChildResult result = co_await to_thread(fork_and_run);
        EXPECT_EQ(result.exit_code, 42) << result.output;
        EXPECT_EQ(co_await number_from_a_thread(), 42);
        co_await pool.end();
    }(factory()));
}

TEST_P(ForksAndThreads, a_child_of_a_callback_may_run_a_loop_of_its_own) {
    run([](LoopFactory factory) -> Coro<> {
        BusyPool pool;
        co_await pool.start();
        ChildResult result = in_child([&] {
            std::printf("%s", thrown_by([] { get_running_loop(); }).c_str());
            return coil::run(number_from_a_thread(), {.loop_factory = factory});
        });
        EXPECT_EQ(result.exit_code, 42);
        EXPECT_EQ(result.output, "RuntimeError: no running event loop");
        EXPECT_EQ(co_await number_from_a_thread(), 42);
        co_await pool.end();
    }(factory()));
}

TEST_P(ForksAndThreads, children_of_a_child_s_loop_are_its_own) {
    run([](LoopFactory factory) -> Coro<> {
        BusyPool pool;
        co_await pool.start();
        auto grandchild = []() -> Coro<int> {
            auto process = co_await create_subprocess_shell("exit 6");
            co_return co_await process.wait();
        };
        auto fork_and_run = [&] {
            return in_child([&] { return coil::run(grandchild(), {.loop_factory = factory}); });
        };
        ChildResult result = co_await to_thread(fork_and_run);
        EXPECT_EQ(result.exit_code, 6) << result.output;
        co_await pool.end();
    }(factory()));
}

TEST(ForksAndThreadPools, a_loop_that_a_child_inherits_gets_threads_of_its_own) {
    auto loop = epoll_loop();
    EXPECT_EQ(loop->run_until_complete(number_from_a_thread()), 42);
    ChildResult result = in_child([&] {
        ::alarm(20);
        int number = loop->run_until_complete(number_from_a_thread());
        loop->run_until_complete(loop->shutdown_default_executor());
        loop->close();
        return number;
    });
    EXPECT_EQ(result.exit_code, 42) << result.signal << result.output;
    EXPECT_EQ(loop->run_until_complete(number_from_a_thread()), 42);
    loop->close();
}

TEST(ForksAndThreadPools, the_parent_s_pool_is_refused_in_a_child) {
    ThreadPoolExecutor pool(1);
    EXPECT_EQ(pool.submit([] { return 42; }).result(), 42);
    ChildResult result = in_child([&] {
        ::alarm(20);
        std::printf("%s", thrown_by([&] { return pool.submit([] { return 42; }).result(); }).c_str());
        pool.shutdown();
        return 0;
    });
    EXPECT_EQ(result.output, "RuntimeError: the threads of this pool are the parent process's");
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(pool.submit([] { return 42; }).result(), 42);
}
#endif

// ---- descriptors

TEST_P(ForksAndThreads, no_descriptor_of_coil_s_goes_to_other_programs) {
    std::set<int> before = fds();
    run([](const std::set<int>& inherited) -> Coro<> {
        BusyPool pool;
        co_await pool.start();
        auto serve = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            co_await reader.read();
            writer.close();
        };
        Server server = co_await start_server(serve, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", server.sockets()[0].getsockname().port);
        auto cat = co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
        int count = 0;
        for (int fd : fds()) {
            if (inherited.contains(fd)) continue;
            ++count;
            EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC) << fd;
        }
        EXPECT_GE(count, 6);

        // What does not close descriptors itself has none either.
        auto list =
            co_await create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE, .close_fds = false});
        std::string folder = "/proc/" + std::to_string(list.pid()) + "/fd/";
        for (int fd : fds()) {
            if (inherited.contains(fd)) continue;
            EXPECT_NE(::access((folder + std::to_string(fd)).c_str(), F_OK), 0) << fd;
        }
        for (Process* process : {&cat, &list}) {
            auto ended = co_await process->communicate();
            EXPECT_EQ(process->returncode(), 0);
        }
        writer.close();
        server.close();
        co_await server.wait_closed();
        co_await pool.end();
    }(before));
}
