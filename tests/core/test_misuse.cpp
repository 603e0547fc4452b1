// Wrong uses, each with the error it throws and its text. What a text goes on with is advice and may change, so a row
// gives its beginning.

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

Coro<> nothing() { co_return; }
Coro<int> give(int value) { co_return value; }
AsyncGenerator<int> one() { co_yield 1; }

/// A wrong use outside of a coroutine.
struct Plain {
    const char* name;
    const char* error;
    void (*use)();
};
/// A wrong use inside of a task, on virtual time; `use` is awaited.
struct Inside {
    const char* name;
    const char* error;
    Coro<> (*use)();
};

void on_closed_loop(void (*use)(EventLoop&)) {
    auto loop = coil::testing::virtual_loop();
    loop->close();
    use(*loop);
}
/// The loop runs in this thread, the use is made by another one.
void in_other_thread(void (*use)(EventLoop&)) {
    VirtualLoop loop;
    std::exception_ptr error;
    loop->call_soon([&] {
        std::thread other([&] {
            try {
                use(*loop);
            } catch (...) {
                error = std::current_exception();
            }
        });
        other.join();
        loop->stop();
    });
    loop->run_forever();
    if (error) std::rethrow_exception(error);
}
void ignore(const auto&) {}

const Plain PLAIN[] = {
    // A closed loop.
    {"call_soon_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { ignore(l.call_soon([] {})); }); }},
    {"call_soon_threadsafe_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { ignore(l.call_soon_threadsafe([] {})); }); }},
    {"call_later_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { ignore(l.call_later(1s, [] {})); }); }},
    {"call_at_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { ignore(l.call_at(l.time(), [] {})); }); }},
    {"run_forever_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { l.run_forever(); }); }},
    {"run_until_complete_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { l.run_until_complete(nothing()); }); }},
    {"create_task_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { ignore(l.create_task(nothing())); }); }},
    {"add_reader_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { l.add_reader(0, [] {}); }); }},
    {"add_writer_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { l.add_writer(0, [] {}); }); }},
    {"add_signal_handler_on_a_closed_loop", "RuntimeError: Event loop is closed",
     [] { on_closed_loop([](EventLoop& l) { l.add_signal_handler(SIGUSR1, [] {}); }); }},

    // The wrong thread.
    {"call_soon_from_another_Thread", "RuntimeError: Non-thread-safe operation invoked on an event loop",
     [] { in_other_thread([](EventLoop& l) { ignore(l.call_soon([] {})); }); }},
    {"call_later_from_another_Thread", "RuntimeError: Non-thread-safe operation invoked on an event loop",
     [] { in_other_thread([](EventLoop& l) { ignore(l.call_later(1s, [] {})); }); }},
    {"create_task_from_another_Thread", "RuntimeError: Non-thread-safe operation invoked on an event loop",
     [] { in_other_thread([](EventLoop& l) { ignore(l.create_task(nothing())); }); }},
    {"add_reader_from_another_Thread", "RuntimeError: Non-thread-safe operation invoked on an event loop",
     [] { in_other_thread([](EventLoop& l) { l.add_reader(0, [] {}); }); }},
    {"run_forever_from_another_Thread", "RuntimeError: This event loop is already running",
     [] { in_other_thread([](EventLoop& l) { l.run_forever(); }); }},
    {"close_from_another_Thread", "RuntimeError: Cannot close a running event loop",
     [] { in_other_thread([](EventLoop& l) { l.close(); }); }},
    {"add_signal_handler_outside_of_the_main_Thread",
     "RuntimeError: add_signal_handler() may be called in the main thread only",
     [] {
         std::exception_ptr error;
         std::thread other([&] {
             VirtualLoop loop;
             try {
                 loop->add_signal_handler(SIGUSR1, [] {});
             } catch (...) {
                 error = std::current_exception();
             }
         });
         other.join();
         if (error) std::rethrow_exception(error);
     }},

    // No loop.
    {"get_running_loop_outside", "RuntimeError: no running event loop",
     [] { ignore(get_running_loop().time()); }},
    {"get_event_loop_without_one", "RuntimeError: there is no current event loop in this thread",
     [] { ignore(get_event_loop().time()); }},
    {"create_task_outside", "RuntimeError: no running event loop", [] { ignore(create_task(nothing())); }},
    {"current_task_outside", "RuntimeError: no running event loop", [] { ignore(current_task()); }},
    {"timeout_outside", "RuntimeError: no running event loop", [] { ignore(timeout(1s)); }},

    // Arguments.
    {"reader_of_a_negative_descriptor", "ValueError: a file descriptor is not negative",
     [] { VirtualLoop()->add_reader(-1, [] {}); }},
    {"writer_of_a_negative_descriptor", "ValueError: a file descriptor is not negative",
     [] { VirtualLoop()->add_writer(-1, [] {}); }},
    {"signal_0", "ValueError: sig must be between 1 and 64, not 0",
     [] { VirtualLoop()->add_signal_handler(0, [] {}); }},
    {"signal_65", "ValueError: sig must be between 1 and 64, not 65",
     [] { VirtualLoop()->add_signal_handler(65, [] {}); }},
    {"removing_signal_minus_1", "ValueError: sig must be between 1 and 64, not -1",
     [] { VirtualLoop()->remove_signal_handler(-1); }},
    {"signal_KILL", "RuntimeError: sig 9 cannot be caught",
     [] { VirtualLoop()->add_signal_handler(SIGKILL, [] {}); }},
    {"signal_STOP", "RuntimeError: sig 19 cannot be caught",
     [] { VirtualLoop()->add_signal_handler(SIGSTOP, [] {}); }},
    {"a_delay_of_nan", "ValueError: a delay must be a number",
     [] {
         VirtualLoop()->call_later(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN()),
                                   [] {});
     }},
    {"Semaphore_below_zero", "ValueError: Semaphore initial value must be >= 0",
     [] { Semaphore semaphore(-1); }},
    {"BoundedSemaphore_below_zero", "ValueError: Semaphore initial value must be >= 0",
     [] { BoundedSemaphore semaphore(-1); }},
    {"an_empty_ExceptionGroup", "ValueError: an ExceptionGroup needs at least one exception",
     [] { ExceptionGroup("none", {}); }},

    // Handles without a state.
    {"an_empty_Future_done", "RuntimeError: this Future or Task handle is empty",
     [] { ignore(Future<int>().done()); }},
    {"an_empty_Future_result", "RuntimeError: this Future or Task handle is empty",
     [] { ignore(Future<int>().result()); }},
    {"an_empty_Future_set_result", "RuntimeError: this Future or Task handle is empty",
     [] { Future<int>().set_result(1); }},
    {"an_empty_Task_cancel", "RuntimeError: this Future or Task handle is empty", [] { Task<>().cancel(); }},
    {"an_empty_Task_get_name", "RuntimeError: this Future or Task handle is empty",
     [] { ignore(Task<>().get_name()); }},

    // Futures.
    {"result_too_early", "InvalidStateError: Result is not ready",
     [] { ignore(VirtualLoop()->create_future<int>().result()); }},
    {"exception_too_early", "InvalidStateError: Exception is not set",
     [] { ignore(VirtualLoop()->create_future<int>().exception()); }},
    {"set_result_twice", "InvalidStateError: set_result: invalid state",
     [] {
         VirtualLoop loop;
         auto future = loop->create_future<int>();
         future.set_result(1);
         future.set_result(2);
     }},
    {"set_exception_after_a_result", "InvalidStateError: set_exception: invalid state",
     [] {
         VirtualLoop loop;
         auto future = loop->create_future<int>();
         future.set_result(1);
         future.set_exception(ValueError("late"));
     }},
    {"set_result_after_cancel", "InvalidStateError: set_result: invalid state",
     [] {
         VirtualLoop loop;
         auto future = loop->create_future<int>();
         future.cancel();
         future.set_result(2);
     }},
    {"a_view_set_result", "InvalidStateError: this Future<> is a view of a future with a value",
     [] {
         VirtualLoop loop;
         auto future = loop->create_future<int>();
         Future<> view = future;
         view.set_result();
     }},
    {"get_loop_of_a_future_whose_loop_is_gone",
     "RuntimeError: the event loop of this future no longer exists",
     [] {
         auto loop = coil::testing::virtual_loop();
         auto future = loop->create_future<int>();
         loop->close();
         loop.reset();
         ignore(future.get_loop().time());
     }},

    // Running.
    {"run_until_complete_of_another_loops_future", "ValueError: The future belongs to a different loop",
     [] {
         VirtualLoop mine;
         VirtualLoop other;
         mine->run_until_complete(other->create_future());
     }},
    {"run_until_complete_of_an_awaited_Coro", "RuntimeError: cannot reuse already awaited coroutine",
     [] {
         VirtualLoop loop;
         Coro<> coro = nothing();
         loop->run_until_complete(std::move(coro));
         loop->run_until_complete(std::move(coro));
     }},
    {"a_loop_that_stops_too_early", "RuntimeError: Event loop stopped before Future completed.",
     [] {
         VirtualLoop loop;
         loop->call_soon([&] { loop->stop(); });
         loop->run_until_complete(loop->create_future());
     }},
    {"Runner_closed", "RuntimeError: Runner is closed",
     [] {
         Runner runner({.loop_factory = coil::testing::virtual_loop});
         runner.close();
         runner.run(nothing());
     }},
    {"run_with_an_awaited_Coro", "RuntimeError: cannot reuse already awaited coroutine",
     [] {
         Coro<> coro = nothing();
         run_virtual(std::move(coro));
         run_virtual(std::move(coro));
     }},

    // Primitives.
    {"releasing_a_Lock_not_held", "RuntimeError: Lock is not acquired.", [] { Lock().release(); }},
    {"releasing_a_BoundedSemaphore_too_often", "ValueError: BoundedSemaphore released too many times",
     [] { BoundedSemaphore(1).release(); }},
    {"task_done_too_often", "ValueError: task_done() called too many times",
     [] { Queue<int>().task_done(); }},
    {"get_nowait_of_an_empty_Queue", "QueueEmpty", [] { ignore(Queue<int>().get_nowait()); }},
    {"put_nowait_into_a_full_Queue", "QueueFull",
     [] {
         Queue<int> queue(1);
         queue.put_nowait(1);
         queue.put_nowait(2);
     }},

    // Context variables.
    {"a_variable_without_a_value", "LookupError: context variable 'name' has no value here and no default",
     [] { ignore(ContextVar<int>("name").get()); }},
    {"a_token_used_twice", "RuntimeError: this token has already been used once",
     [] {
         ContextVar<int> var("var");
         auto token = var.set(1);
         var.reset(token);
         var.reset(token);
     }},
    {"a_token_of_another_variable", "ValueError: this token was made by another context variable",
     [] {
         ContextVar<int> var("var");
         ContextVar<int> other("other");
         auto token = other.set(1);
         var.reset(token);
     }},
    {"a_token_of_another_context", "ValueError: this token was made in a different context",
     [] {
         ContextVar<int> var("var");
         auto token = var.set(1);
         copy_context().run([&] { var.reset(token); });
     }},
    {"entering_an_entered_context", "RuntimeError: cannot enter context",
     [] {
         Context context;
         context.run([&] { context.run([] {}); });
     }},
    {"an_unset_variable_of_a_context", "LookupError: context variable 'var' is not set in this context",
     [] {
         ContextVar<int> var("var", 1);
         ignore(Context()[var]);
     }},

    // Time limits and groups outside of a task.
    {"TaskGroup_create_task_before_entry", "RuntimeError: TaskGroup has not been entered",
     [] {
         TaskGroup group;
         ignore(group.create_task(nothing()));
     }},
    {"TaskGroup_entered_outside_of_a_task", "RuntimeError: TaskGroup cannot determine the parent task",
     [] { TaskGroup().enter(); }},
    {"Timeout_entered_outside_of_a_task", "RuntimeError: Timeout should be used inside a task",
     [] { timeout_at(std::nullopt).enter(); }},
    {"Timeout_rescheduled_before_entry", "RuntimeError: Timeout has not been entered",
     [] { timeout_at(std::nullopt).reschedule(std::nullopt); }},
};

const Inside INSIDE[] = {
    {"awaiting_a_Coro_twice", "RuntimeError: cannot reuse already awaited coroutine",
     []() -> Coro<> {
         Coro<int> coro = give(1);
         co_await std::move(coro);
         co_await std::move(coro);
     }},
    {"making_a_task_of_an_awaited_Coro", "RuntimeError: cannot reuse already awaited coroutine",
     []() -> Coro<> {
         Coro<int> coro = give(1);
         co_await std::move(coro);
         ignore(create_task(std::move(coro)));
     }},
    {"gathering_an_awaited_Coro", "RuntimeError: cannot reuse already awaited coroutine",
     []() -> Coro<> {
         Coro<int> coro = give(1);
         co_await std::move(coro);
         co_await gather(give(2), std::move(coro));
     }},
    {"awaiting_an_empty_Future", "RuntimeError: this Future or Task handle is empty",
     []() -> Coro<> {
         Future<> none;
         co_await none;
     }},
    {"awaiting_itself", "RuntimeError: Task cannot await on itself: <Task '",
     []() -> Coro<> { co_await current_task(); }},
    {"awaiting_a_future_of_another_loop", "RuntimeError: Task <Task '",
     []() -> Coro<> {
         VirtualLoop other;
         Future<> future = other->create_future();
         co_await future;
     }},
    {"run_inside_of_run", "RuntimeError: asyncio.run() cannot be called from a running event loop",
     []() -> Coro<> {
         run(nothing());
         co_return;
     }},
    {"Runner_run_inside_of_run", "RuntimeError: Runner.run() cannot be called from a running event loop",
     []() -> Coro<> {
         Runner runner;
         runner.run(nothing());
         co_return;
     }},
    {"run_forever_of_the_running_loop", "RuntimeError: This event loop is already running",
     []() -> Coro<> {
         get_running_loop().run_forever();
         co_return;
     }},
    {"run_until_complete_of_the_running_loop", "RuntimeError: This event loop is already running",
     []() -> Coro<> {
         get_running_loop().run_until_complete(nothing());
         co_return;
     }},
    {"run_forever_of_another_loop", "RuntimeError: Cannot run the event loop while another loop is running",
     []() -> Coro<> {
         VirtualLoop other;
         other->run_forever();
         co_return;
     }},
    {"run_until_complete_of_another_loop",
     "RuntimeError: Cannot run the event loop while another loop is running",
     []() -> Coro<> {
         VirtualLoop other;
         other->run_until_complete(nothing());
         co_return;
     }},
    {"closing_the_running_loop", "RuntimeError: Cannot close a running event loop",
     []() -> Coro<> {
         get_running_loop().close();
         co_return;
     }},
    {"set_result_of_a_task", "RuntimeError: Task does not support set_result operation",
     []() -> Coro<> {
         Task<int> task = create_task(give(1));
         task.set_result(2);
         co_return;
     }},
    {"set_exception_of_a_task", "RuntimeError: Task does not support set_exception operation",
     []() -> Coro<> {
         Task<int> task = create_task(give(1));
         task.set_exception(ValueError("x"));
         co_return;
     }},
    {"set_result_of_a_view_of_a_task", "RuntimeError: Task does not support set_result operation",
     []() -> Coro<> {
         Future<> view = create_task(give(1));
         view.set_result();
         co_return;
     }},
    {"waiting_for_nothing", "ValueError: Set of Tasks/Futures is empty.",
     []() -> Coro<> { co_await wait(std::vector<Future<>>()); }},
    {"entering_a_Timeout_twice", "RuntimeError: Timeout has already been entered",
     []() -> Coro<> {
         Timeout limit = timeout(1s);
         auto body = []() -> Coro<> { co_return; };
         co_await async_with(limit, body);
         co_await async_with(limit, body);
     }},
    {"rescheduling_a_finished_Timeout", "RuntimeError: Cannot change state of finished Timeout",
     []() -> Coro<> {
         Timeout limit = timeout(1s);
         auto body = []() -> Coro<> { co_return; };
         co_await async_with(limit, body);
         limit.reschedule(std::nullopt);
     }},
    {"rescheduling_an_expired_Timeout", "RuntimeError: Cannot change state of expired Timeout",
     []() -> Coro<> {
         Timeout limit = timeout(1s);
         auto body = []() -> Coro<> { co_await sleep(1h); };
         co_await try_await(async_with(limit, body));
         limit.reschedule(std::nullopt);
     }},
    {"rescheduling_an_expiring_Timeout", "RuntimeError: Cannot change state of expiring Timeout",
     []() -> Coro<> {
         auto body = [](Timeout& limit) -> Coro<> {
             co_await try_await(sleep(1h));
             limit.reschedule(std::nullopt);
         };
         co_await async_with(timeout(1s), body);
     }},
    {"entering_a_TaskGroup_twice", "RuntimeError: TaskGroup has already been entered",
     []() -> Coro<> {
         TaskGroup group;
         auto body = []() -> Coro<> { co_return; };
         co_await async_with(group, body);
         co_await async_with(group, body);
     }},
    {"TaskGroup_create_task_after_the_exit", "RuntimeError: TaskGroup is finished",
     []() -> Coro<> {
         TaskGroup group;
         auto body = []() -> Coro<> { co_return; };
         co_await async_with(group, body);
         ignore(group.create_task(nothing()));
     }},
    {"TaskGroup_create_task_while_it_shuts_down", "RuntimeError: TaskGroup is shutting down",
     []() -> Coro<> {
         auto slow = []() -> Coro<> {
             co_await try_await(sleep(1h));
             co_await sleep(1s);
         };
         std::exception_ptr error;
         auto body = [&](TaskGroup& group) -> Coro<> {
             group.create_task(slow());
             co_await sleep(1s);
             group.cancel();
             try {
                 ignore(group.create_task(nothing()));
             } catch (const RuntimeError&) {
                 error = std::current_exception();
             }
         };
         co_await async_with(TaskGroup(), body);
         if (error) std::rethrow_exception(error);
     }},
    {"anext_while_the_generator_runs", "RuntimeError: anext(): asynchronous generator is already running",
     []() -> Coro<> {
         auto waiting = []() -> AsyncGenerator<int> {
             co_await sleep(1s);
             co_yield 1;
         };
         auto generator = waiting();
         auto drive = [](AsyncGenerator<int>& g) -> Coro<> { co_await g.next(); };
         Task<> first = create_task(drive(generator));
         co_await sleep(0s);
         auto outcome = co_await try_await(drive(generator));
         co_await first;
         co_await generator.aclose();
         outcome.value();
     }},
    {"using_a_generator_that_was_moved_from", "RuntimeError: this AsyncGenerator has been moved from",
     []() -> Coro<> {
         auto generator = one();
         auto moved = std::move(generator);
         co_await generator.next();
     }},
    {"a_Lock_of_another_loop", "RuntimeError: Lock is bound to a different event loop",
     []() -> Coro<> {
         Lock lock;
         co_await lock.acquire();
         std::exception_ptr error;
         // Bound by the wait, used by a wait in another loop.
         auto waiting = [](Lock& l) -> Coro<> { co_await l.acquire(); };
         Task<> bound = create_task(waiting(lock));
         co_await sleep(0s);
         std::thread other([&] {
             try {
                 run_virtual(waiting(lock));
             } catch (...) {
                 error = std::current_exception();
             }
         });
         other.join();
         bound.cancel();
         co_await try_await(bound);
         if (error) std::rethrow_exception(error);
     }},
};

std::string plain_name(const ::testing::TestParamInfo<Plain>& info) { return info.param.name; }
std::string inside_name(const ::testing::TestParamInfo<Inside>& info) { return info.param.name; }

class Misuse : public ::testing::TestWithParam<Plain> {};
class MisuseInside : public ::testing::TestWithParam<Inside> {};
INSTANTIATE_TEST_SUITE_P(Each, Misuse, ::testing::ValuesIn(PLAIN), plain_name);
INSTANTIATE_TEST_SUITE_P(Each, MisuseInside, ::testing::ValuesIn(INSIDE), inside_name);

}  // namespace

TEST_P(Misuse, throws) {
    LogRecorder quiet;
    std::string expected = GetParam().error;
    std::string thrown = thrown_by(GetParam().use);
    EXPECT_EQ(thrown.substr(0, expected.size()), expected) << thrown;
}

TEST_P(MisuseInside, throws_inside_the_task_and_the_loop_goes_on) {
    LogRecorder quiet;
    std::string thrown;
    auto main = [&]() -> Coro<> {
        thrown = co_await thrown_by_await(GetParam().use());
        co_await sleep(1s);
        Task<int> task = create_task(give(1));
        int value = co_await task;
        EXPECT_EQ(value, 1) << "the loop is usable";
    };
    run_virtual(main());
    std::string expected = GetParam().error;
    EXPECT_EQ(thrown.substr(0, expected.size()), expected) << thrown;
}

TEST(MisuseText, of_a_future_of_another_loop_names_both) {
    auto main = []() -> Coro<std::string> {
        current_task().set_name("mine");
        VirtualLoop other;
        Future<> future = other->create_future();
        co_return co_await thrown_by_await(future);
    };
    EXPECT_EQ(
        run_virtual(main()),
        "RuntimeError: Task <Task 'mine' running> got Future <Future pending> attached to a different loop");
}

TEST(MisuseText, of_a_policy_that_has_no_loop) {
    struct Policy : EventLoopPolicy {
        std::unique_ptr<EventLoop> new_event_loop() override {
            ++made;
            return coil::testing::virtual_loop();
        }
        int made = 0;
    };
    auto policy = std::make_shared<Policy>();
    set_event_loop_policy(policy);
    EXPECT_EQ(&get_event_loop_policy(), policy.get());
    EXPECT_EQ(run(give(3)), 3);
    EXPECT_EQ(policy->made, 1);
    EXPECT_EQ(thrown_by([] { return &get_event_loop(); }).substr(0, 12), "RuntimeError");
    VirtualLoop loop;
    set_event_loop(loop.get());
    EXPECT_EQ(&get_event_loop(), loop.get());
    set_event_loop(nullptr);
    EXPECT_EQ(thrown_by([] { return &get_event_loop(); }).substr(0, 12), "RuntimeError");
    set_event_loop_policy(nullptr);
    EXPECT_NE(&get_event_loop_policy(), policy.get());
}
