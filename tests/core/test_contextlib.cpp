#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

/// Notes what happens to it; every step waits.
struct Waiting {
    Log* log;
    bool swallow = false;
    bool fail_enter = false;
    bool fail_exit = false;
    Coro<int> aenter() {
        co_await sleep(1s);
        log->push_back("enter");
        if (fail_enter) throw ValueError("enter");
        co_return 7;
    }
    Coro<bool> aexit(std::exception_ptr error) {
        co_await sleep(1s);
        log->push_back("exit " + error_text(error));
        if (fail_exit) throw TypeError("exit");
        co_return swallow;
    }
};

struct Plain {
    Log* log;
    int& enter() {
        log->push_back("enter");
        return value;
    }
    void exit(const std::exception_ptr& error) { log->push_back("exit " + error_text(error)); }
    int value = 3;
};

}  // namespace

TEST(AsyncWith, enters_runs_the_body_and_exits) {
    Log log;
    auto main = [&]() -> Coro<> {
        Waiting manager{&log};
        auto body = [&](int& value) -> Coro<std::string> {
            log.push_back("body " + std::to_string(value));
            co_await sleep(1s);
            co_return "result";
        };
        std::string result = co_await async_with(manager, body);
        EXPECT_EQ(result, "result");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "body 7", "exit nothing"}));
}

TEST(AsyncWith, takes_a_body_without_an_argument_and_a_plain_manager) {
    Log log;
    auto main = [&]() -> Coro<> {
        Plain manager{&log};
        auto body = [&]() -> Coro<> {
            log.push_back("body");
            co_return;
        };
        co_await async_with(manager, body);
        auto with_value = [&](int& value) -> Coro<> {
            EXPECT_EQ(&value, &manager.value);
            co_return;
        };
        co_await async_with(manager, with_value);
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "body", "exit nothing", "enter", "exit nothing"}));
}

TEST(AsyncWith, keeps_a_manager_that_is_given_by_value) {
    long before = Alive::count();
    struct Manager {
        Alive alive;
        int enter() { return 1; }
        void exit(const std::exception_ptr&) {}
    };
    auto main = [&]() -> Coro<> {
        auto body = [&](int&) -> Coro<> {
            co_await sleep(1s);
            EXPECT_EQ(Alive::count(), before + 1);
        };
        auto block = async_with(Manager(), body);
        co_await std::move(block);
        EXPECT_EQ(Alive::count(), before);
    };
    run_virtual(main());
    EXPECT_EQ(Alive::count(), before);
}

TEST(AsyncWith, gives_the_error_to_the_exit_and_throws_it_again) {
    Log log;
    auto main = [&]() -> Coro<> {
        Waiting manager{&log};
        auto body = [](int&) -> Coro<> {
            co_await sleep(1s);
            throw ValueError("body");
        };
        std::string error = co_await thrown_by_await(async_with(manager, body));
        EXPECT_EQ(error, "ValueError: body");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "exit ValueError: body"}));
}

TEST(AsyncWith, an_exit_that_gives_true_swallows_the_error) {
    Log log;
    auto main = [&]() -> Coro<> {
        Waiting manager{&log, true};
        auto body = [](int&) -> Coro<> {
            throw ValueError("body");
            co_return;
        };
        std::string error = co_await thrown_by_await(async_with(manager, body));
        EXPECT_EQ(error, "nothing");
        auto with_result = [](int&) -> Coro<std::string> {
            throw ValueError("body");
            co_return "x";
        };
        std::string result = co_await async_with(manager, with_result);
        EXPECT_EQ(result, "");
    };
    run_virtual(main());
}

TEST(AsyncWith, an_error_of_the_exit_replaces_the_bodys) {
    Log log;
    auto main = [&]() -> Coro<> {
        Waiting manager{&log, true, false, true};
        auto body = [](int&) -> Coro<> {
            throw ValueError("body");
            co_return;
        };
        std::string error = co_await thrown_by_await(async_with(manager, body));
        EXPECT_EQ(error, "TypeError: exit");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "exit ValueError: body"}));
}

TEST(AsyncWith, does_not_exit_what_was_not_entered) {
    Log log;
    auto main = [&]() -> Coro<> {
        Waiting manager{&log, false, true};
        auto body = [&](int&) -> Coro<> {
            log.push_back("body");
            co_return;
        };
        std::string error = co_await thrown_by_await(async_with(manager, body));
        EXPECT_EQ(error, "ValueError: enter");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter"}));
}

TEST(AsyncWith, exits_when_the_body_is_cancelled_and_the_exit_may_wait) {
    Log log;
    auto block = [&]() -> Coro<> {
        Waiting manager{&log};
        auto body = [](int&) -> Coro<> { co_await sleep(1h); };
        co_await async_with(manager, body);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(block());
        co_await sleep(2s);
        task.cancel("stop");
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: stop");
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "exit CancelledError: stop"}));
}

TEST(AsyncWith, cancelled_while_entering_does_not_run_the_body) {
    Log log;
    auto block = [&]() -> Coro<> {
        Waiting manager{&log};
        auto body = [&](int&) -> Coro<> {
            log.push_back("body");
            co_return;
        };
        co_await async_with(manager, body);
    };
    auto main = [&]() -> Coro<> {
        Task<> task = create_task(block());
        co_await sleep(500ms);
        task.cancel();
        co_await try_await(task);
        EXPECT_TRUE(task.cancelled());
    };
    run_virtual(main());
    EXPECT_EQ(log, Log());
}

TEST(AsyncWith, a_body_that_throws_before_it_is_a_coroutine_is_a_failed_body) {
    Log log;
    auto main = [&]() -> Coro<> {
        Plain manager{&log};
        auto body = [&](int&) -> Coro<> { throw ValueError("no coroutine"); };
        std::string error = co_await thrown_by_await(async_with(manager, body));
        EXPECT_EQ(error, "ValueError: no coroutine");
    };
    run_virtual(main());
    EXPECT_EQ(log, (Log{"enter", "exit ValueError: no coroutine"}));
}

TEST(AsyncWith, locks_and_semaphores_are_context_managers) {
    auto main = [&]() -> Coro<> {
        Lock lock;
        auto body = [&]() -> Coro<int> {
            EXPECT_TRUE(lock.locked());
            co_return 2;
        };
        int value = co_await async_with(lock, body);
        EXPECT_EQ(value, 2);
        EXPECT_FALSE(lock.locked());
        Semaphore semaphore(1);
        auto failing = [&]() -> Coro<> {
            EXPECT_TRUE(semaphore.locked());
            throw ValueError("inside");
            co_return;
        };
        std::string error = co_await thrown_by_await(async_with(semaphore, failing));
        EXPECT_EQ(error, "ValueError: inside");
        EXPECT_FALSE(semaphore.locked());
    };
    run_virtual(main());
}
