// The cancellation matrix: every awaitable, cancelled at every point. For each it is checked that the task ends cancelled
// whenever cancel() said so, that nothing leaks and that no wake-up is lost: who waits behind still gets what there is.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

/// Awaits as it stands, or through try_await.
template <class A>
Coro<> await_it(A awaitable, bool tried) {
    Alive alive;
    if (tried) {
        auto outcome = co_await try_await(std::move(awaitable));
        outcome.value();
    } else if constexpr (std::is_void_v<detail::AwaitResult<A>>) {
        co_await std::move(awaitable);
    } else {
        [[maybe_unused]] auto result = co_await std::move(awaitable);
    }
}

/// One row: something to wait for, and how it comes.
class Row {
  public:
    virtual ~Row() = default;
    virtual Coro<> begin() { co_return; }
    virtual Coro<> wait(bool tried) = 0;
    /// What is waited for comes now (or, of a sleep, when its time has come).
    virtual Coro<> complete() = 0;
    /// Waits behind the waiting task; ends once it has got what the other did not take.
    virtual Coro<> follow() { co_return; }
    /// Turns until the waiting task is suspended in its wait.
    virtual int turns_to_wait() const { return 4; }
};

// ---- rows

class SleepRow : public Row {
  public:
    Coro<> wait(bool tried) override {
        begun_ = get_running_loop().time();
        return await_it(sleep(1s), tried);
    }
    Coro<> complete() override { co_await sleep(begun_ + 1s - get_running_loop().time()); }

  private:
    TimePoint begun_;
};

class YieldRow : public Row {
  public:
    Coro<> wait(bool tried) override { return await_it(sleep(0s), tried); }
    Coro<> complete() override { co_return; }
    int turns_to_wait() const override { return 1; }
};

class FutureRow : public Row {
  public:
    Coro<> begin() override {
        future_ = get_running_loop().create_future<int>();
        co_return;
    }
    Coro<> wait(bool tried) override { return await_it(future_, tried); }
    Coro<> complete() override {
        if (!future_.done()) future_.set_result(1);
        co_return;
    }

  protected:
    Future<int> future_;
};

class ShieldFutureRow : public FutureRow {
  public:
    Coro<> wait(bool tried) override { return await_it(shield(future_), tried); }
};
class WaitForFutureRow : public FutureRow {
  public:
    Coro<> wait(bool tried) override { return await_it(wait_for(future_, 1h), tried); }
};
class GatherFuturesRow : public FutureRow {
  public:
    Coro<> wait(bool tried) override {
        Future<int> done = get_running_loop().create_future<int>();
        done.set_result(2);
        return await_it(gather(done, future_, future_), tried);
    }
};
class WaitFuturesRow : public FutureRow {
  public:
    Coro<> begin() override {
        co_await FutureRow::begin();
        other_ = get_running_loop().create_future<int>();
    }
    Coro<> wait(bool tried) override {
        std::vector<Future<int>> futures{future_, other_};
        return await_it(coil::wait(std::move(futures)), tried);
    }
    Coro<> complete() override {
        if (!other_.done()) other_.set_result(1);
        co_await FutureRow::complete();
    }

  protected:
    Future<int> other_;
};
/// Both become done in the same turn, although one would be enough.
class WaitFirstRow : public WaitFuturesRow {
  public:
    Coro<> wait(bool tried) override {
        std::vector<Future<int>> futures{future_, other_};
        return await_it(coil::wait(std::move(futures), {.timeout = 1h, .return_when = FIRST_COMPLETED}),
                        tried);
    }
};

/// Rows whose children wait for one event.
class EventRow : public Row {
  public:
    Coro<> wait(bool tried) override { return await_it(event_.wait(), tried); }
    Coro<> complete() override {
        event_.set();
        co_return;
    }
    Coro<> follow() override { co_await event_.wait(); }

  protected:
    Coro<> child() {
        Alive alive;
        co_await event_.wait();
    }
    Event event_;
};
class TaskRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(create_task(child()), tried); }
};
class CoroRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(chain(5), tried); }

  private:
    Coro<> chain(int depth) {
        Alive alive;
        if (depth == 0) {
            co_await event_.wait();
        } else {
            co_await chain(depth - 1);
        }
    }
};
class GatherRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(gather(child(), child(), child()), tried); }
};
class GatherOutcomesRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(gather(return_exceptions, child(), child()), tried); }
};
class GatherVectorRow : public EventRow {
  public:
    Coro<> wait(bool tried) override {
        std::vector<Coro<>> children;
        for (int i = 0; i < 3; ++i) children.push_back(child());
        return await_it(gather(std::move(children)), tried);
    }
};
class ShieldTaskRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(shield(child()), tried); }
};
class WaitTasksRow : public EventRow {
  public:
    Coro<> wait(bool tried) override {
        std::vector<Task<>> tasks{create_task(child()), create_task(child())};
        return await_it(coil::wait(std::move(tasks), {.timeout = 1h}), tried);
    }
};
class WaitForCoroRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(wait_for(child(), 1h), tried); }
};
class WaitForTaskRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(wait_for(create_task(child()), 1h), tried); }
};
/// One child ends; whoever has got it lets the other one end.
class AsCompletedNextRow : public EventRow {
  public:
    Coro<> begin() override {
        std::vector<Coro<>> children;
        children.push_back(child());
        children.push_back(other_child());
        all_.emplace(as_completed(std::move(children), {.timeout = 1h}));
        co_return;
    }
    Coro<> wait(bool tried) override {
        co_await await_it(all_->next(), tried);
        other_.set();
    }
    Coro<> follow() override { co_await all_->next(); }

  protected:
    Coro<> other_child() {
        Alive alive;
        co_await other_.wait();
    }
    std::optional<decltype(as_completed(std::vector<Coro<>>()))> all_;
    Event other_;
};
class AsCompletedLoopRow : public AsCompletedNextRow {
  public:
    Coro<> wait(bool tried) override {
        for (auto& next : *all_) {
            co_await await_it(std::move(next), tried);
            break;
        }
        other_.set();
    }
};
class TaskGroupExitRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(block(), tried); }

  private:
    Coro<> block() {
        auto body = [this](TaskGroup& group) -> Coro<> {
            group.create_task(child());
            group.create_task(child());
            co_return;
        };
        co_await async_with(TaskGroup(), body);
    }
};
class TaskGroupBodyRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(block(), tried); }

  private:
    Coro<> block() {
        auto body = [this](TaskGroup& group) -> Coro<> {
            group.create_task(child());
            co_await event_.wait();
        };
        co_await async_with(TaskGroup(), body);
    }
};
class TimeoutRow : public EventRow {
  public:
    Coro<> wait(bool tried) override { return await_it(block(), tried); }

  private:
    Coro<> block() {
        auto body = [this](Timeout&) -> Coro<> { co_await event_.wait(); };
        co_await async_with(timeout(1h), body);
    }
};
class FinallyRow : public EventRow {
  public:
    Coro<> wait(bool tried) override {
        auto cleanup = []() -> Coro<> { co_await sleep(0s); };
        return await_it(finally(child(), cleanup), tried);
    }
};
class GeneratorNextRow : public EventRow {
  public:
    Coro<> begin() override {
        generator_.emplace(generate());
        co_return;
    }
    Coro<> wait(bool tried) override { return await_it(generator_->next(), tried); }

  protected:
    AsyncGenerator<int> generate() {
        Alive alive;
        co_await event_.wait();
        co_yield 1;
    }
    std::optional<AsyncGenerator<int>> generator_;
};
class GeneratorCloseRow : public EventRow {
  public:
    Coro<> begin() override {
        generator_.emplace(generate());
        co_await generator_->next();
    }
    Coro<> wait(bool tried) override { return await_it(generator_->aclose(), tried); }

  private:
    AsyncGenerator<int> generate() {
        Alive alive;
        std::exception_ptr exit;
        try {
            co_yield 1;
        } catch (const GeneratorExit&) {
            exit = std::current_exception();
        }
        co_await event_.wait();
        if (exit) std::rethrow_exception(exit);
    }
    std::optional<AsyncGenerator<int>> generator_;
};

class LockRow : public Row {
  public:
    Coro<> begin() override { co_await lock_.acquire(); }
    Coro<> wait(bool tried) override {
        co_await await_it(lock_.acquire(), tried);
        lock_.release();
    }
    Coro<> complete() override {
        if (std::exchange(held_, false)) lock_.release();
        co_return;
    }
    Coro<> follow() override {
        co_await lock_.acquire();
        lock_.release();
    }

  protected:
    Lock lock_;
    bool held_ = true;
};
class LockScopedRow : public LockRow {
  public:
    Coro<> wait(bool tried) override { return await_it(lock_.scoped(), tried); }
};
class LockAsyncWithRow : public LockRow {
  public:
    Coro<> wait(bool tried) override {
        auto body = []() -> Coro<> { co_return; };
        return await_it(async_with(lock_, body), tried);
    }
};

template <class S>
class SemaphoreRow : public Row {
  public:
    Coro<> begin() override { co_await semaphore_.acquire(); }
    Coro<> wait(bool tried) override {
        co_await await_it(semaphore_.acquire(), tried);
        semaphore_.release();
    }
    Coro<> complete() override {
        if (std::exchange(held_, false)) semaphore_.release();
        co_return;
    }
    Coro<> follow() override {
        co_await semaphore_.acquire();
        semaphore_.release();
    }

  protected:
    S semaphore_{1};
    bool held_ = true;
};
class SemaphoreScopedRow : public SemaphoreRow<Semaphore> {
  public:
    Coro<> wait(bool tried) override { return await_it(semaphore_.scoped(), tried); }
};

/// One notification comes; whoever takes it hands another one on.
class ConditionRow : public Row {
  public:
    Coro<> wait(bool tried) override {
        auto held = co_await condition_.scoped();
        co_await await_it(condition_.wait(), tried);
        condition_.notify();
    }
    Coro<> complete() override {
        if (std::exchange(notified_, true)) co_return;
        auto held = co_await condition_.scoped();
        condition_.notify();
    }
    Coro<> follow() override {
        auto held = co_await condition_.scoped();
        co_await condition_.wait();
    }

  private:
    Condition condition_;
    bool notified_ = false;
};
/// As many parties come as are missing: the third one, and one more if the waiting one was cancelled.
class BarrierRow : public Row {
  public:
    Coro<> wait(bool tried) override {
        co_await await_it(barrier_.wait(), tried);
        passed_ = true;
    }
    Coro<> complete() override {
        if (passed_) co_return;
        for (std::size_t i = barrier_.n_waiting(); i < barrier_.parties(); ++i) create_task(follow());
    }
    Coro<> follow() override {
        co_await barrier_.wait();
        passed_ = true;
    }

  private:
    Barrier barrier_{3};
    bool passed_ = false;
};

/// One item comes; whoever takes it hands another one on.
template <class Q>
class QueueGetRow : public Row {
  public:
    Coro<> wait(bool tried) override {
        co_await await_it(queue_.get(), tried);
        queue_.put_nowait(2);
    }
    Coro<> complete() override {
        if (!std::exchange(put_, true)) queue_.put_nowait(1);
        co_return;
    }
    Coro<> follow() override { co_await queue_.get(); }

  private:
    Q queue_;
    bool put_ = false;
};
/// One slot becomes free; whoever takes it makes another one free.
template <class Q>
class QueuePutRow : public Row {
  public:
    Coro<> begin() override { co_await queue_.put(0); }
    Coro<> wait(bool tried) override {
        co_await await_it(queue_.put(1), tried);
        queue_.get_nowait();
    }
    Coro<> complete() override {
        if (!std::exchange(got_, true)) queue_.get_nowait();
        co_return;
    }
    Coro<> follow() override { co_await queue_.put(2); }

  private:
    Q queue_{1};
    bool got_ = false;
};
class QueueJoinRow : public Row {
  public:
    Coro<> begin() override {
        queue_.put_nowait(1);
        queue_.get_nowait();
        co_return;
    }
    Coro<> wait(bool tried) override { return await_it(queue_.join(), tried); }
    Coro<> complete() override {
        if (!std::exchange(done_, true)) queue_.task_done();
        co_return;
    }
    Coro<> follow() override { co_await queue_.join(); }

  private:
    Queue<int> queue_;
    bool done_ = false;
};

struct Named {
    const char* name;
    std::unique_ptr<Row> (*make)();
};
template <class R>
std::unique_ptr<Row> make() {
    return std::make_unique<R>();
}
const Named ROWS[] = {
    {"sleep", make<SleepRow>},
    {"sleep_0", make<YieldRow>},
    {"future", make<FutureRow>},
    {"task", make<TaskRow>},
    {"child_coroutine", make<CoroRow>},
    {"gather", make<GatherRow>},
    {"gather_of_futures", make<GatherFuturesRow>},
    {"gather_of_a_vector", make<GatherVectorRow>},
    {"gather_return_exceptions", make<GatherOutcomesRow>},
    {"shield_future", make<ShieldFutureRow>},
    {"shield_task", make<ShieldTaskRow>},
    {"wait", make<WaitFuturesRow>},
    {"wait_first_completed", make<WaitFirstRow>},
    {"wait_for_tasks", make<WaitTasksRow>},
    {"wait_for_coroutine", make<WaitForCoroRow>},
    {"wait_for_future", make<WaitForFutureRow>},
    {"wait_for_task", make<WaitForTaskRow>},
    {"as_completed_next", make<AsCompletedNextRow>},
    {"as_completed_loop", make<AsCompletedLoopRow>},
    {"task_group_exit", make<TaskGroupExitRow>},
    {"task_group_body", make<TaskGroupBodyRow>},
    {"timeout_body", make<TimeoutRow>},
    {"finally_body", make<FinallyRow>},
    {"lock_acquire", make<LockRow>},
    {"lock_scoped", make<LockScopedRow>},
    {"lock_async_with", make<LockAsyncWithRow>},
    {"semaphore_acquire", make<SemaphoreRow<Semaphore>>},
    {"semaphore_scoped", make<SemaphoreScopedRow>},
    {"bounded_semaphore_acquire", make<SemaphoreRow<BoundedSemaphore>>},
    {"event_wait", make<EventRow>},
    {"condition_wait", make<ConditionRow>},
    {"barrier_wait", make<BarrierRow>},
    {"queue_get", make<QueueGetRow<Queue<int>>>},
    {"queue_put", make<QueuePutRow<Queue<int>>>},
    {"priority_queue_get", make<QueueGetRow<PriorityQueue<int>>>},
    {"priority_queue_put", make<QueuePutRow<PriorityQueue<int>>>},
    {"lifo_queue_get", make<QueueGetRow<LifoQueue<int>>>},
    {"lifo_queue_put", make<QueuePutRow<LifoQueue<int>>>},
    {"queue_join", make<QueueJoinRow>},
    {"generator_next", make<GeneratorNextRow>},
    {"generator_aclose", make<GeneratorCloseRow>},
};

// ---- the points

Coro<> waiting_task(Row& row, bool tried) {
    Alive alive;
    co_await row.wait(tried);
}

/// Keeps what ended its wait over a cleanup that waits itself.
Coro<> cleaning_task(Row& row, bool tried, std::string& log) {
    Alive alive;
    auto outcome = co_await try_await(row.wait(tried));
    auto cleanup = co_await try_await(sleep(1h));
    log = "wait: " + error_text(outcome.exception()) + ", cleanup: " + error_text(cleanup.exception());
    outcome.value();
}

/// Starts the waiting task and one behind it, lets `script` do its worst, and looks at what is left.
class Cancelling : public ::testing::TestWithParam<std::tuple<Named, bool>> {
  protected:
    using Script = std::function<Coro<>(Row&, Task<>)>;

    bool tried() const { return std::get<1>(GetParam()); }

    void play(bool started, Script script, std::string* cleanup_log = nullptr) {
        SCOPED_TRACE(std::get<0>(GetParam()).name);
        long before = Alive::count();
        Reports reports;
        {
            auto row = std::get<0>(GetParam()).make();
            auto main = [&]() -> Coro<> {
                reports.record(get_running_loop());
                co_await row->begin();
                Task<> task = create_task(cleanup_log ? cleaning_task(*row, tried(), *cleanup_log)
                                                      : waiting_task(*row, tried()));
                Task<> follower;
                if (started) {
                    if (row->turns_to_wait() > 1) co_await sleep(0s);
                    follower = create_task(row->follow());
                    co_await turns(row->turns_to_wait() > 1 ? row->turns_to_wait() : 1);
                } else {
                    follower = create_task(row->follow());
                }
                co_await script(*row, task);
                co_await row->complete();
                co_await try_await(task);
                // Nobody else does anything for the follower: a lost wake-up is a deadlock here.
                std::string lost = co_await thrown_by_await(wait_for(follower, 10s));
                EXPECT_EQ(lost, "nothing") << "a wake-up was lost";
            };
            run_virtual(main());
        }
        EXPECT_EQ(Alive::count(), before);
        EXPECT_EQ(reports.texts(), std::vector<std::string>());
    }
};

std::string row_name(const ::testing::TestParamInfo<std::tuple<Named, bool>>& info) {
    return std::string(std::get<0>(info.param).name) + (std::get<1>(info.param) ? "_tried" : "");
}
INSTANTIATE_TEST_SUITE_P(Every, Cancelling, ::testing::Combine(::testing::ValuesIn(ROWS), ::testing::Bool()),
                         row_name);

constexpr int TURNS = 7;

}  // namespace

TEST_P(Cancelling, before_it_starts) {
    play(false, [](Row&, Task<> task) -> Coro<> {
        EXPECT_TRUE(task.cancel("early"));
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error, "CancelledError: early");
        EXPECT_TRUE(task.cancelled());
    });
}

TEST_P(Cancelling, while_it_waits) {
    play(true, [](Row&, Task<> task) -> Coro<> {
        EXPECT_FALSE(task.done());
        EXPECT_TRUE(task.cancel("now"));
        EXPECT_FALSE(task.done()) << "never inline";
        std::string error = co_await thrown_by_await(task);
        EXPECT_EQ(error.substr(0, 14), "CancelledError");
        EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(task.cancelling(), 1);
    });
}

TEST_P(Cancelling, in_the_turns_after_its_completion) {
    for (int distance = 0; distance < TURNS; ++distance) {
        SCOPED_TRACE(distance);
        play(true, [distance](Row& row, Task<> task) -> Coro<> {
            co_await row.complete();
            co_await turns(distance);
            bool asked = task.cancel("late");
            std::string error = co_await thrown_by_await(task);
            EXPECT_EQ(error.substr(0, 14), asked ? "CancelledError" : "nothing");
            EXPECT_EQ(task.cancelled(), asked);
        });
    }
}

TEST_P(Cancelling, in_the_turns_before_its_completion) {
    for (int distance = 0; distance < TURNS; ++distance) {
        SCOPED_TRACE(distance);
        play(true, [distance](Row& row, Task<> task) -> Coro<> {
            EXPECT_TRUE(task.cancel("before"));
            co_await turns(distance);
            co_await row.complete();
            std::string error = co_await thrown_by_await(task);
            EXPECT_EQ(error.substr(0, 14), "CancelledError");
            EXPECT_TRUE(task.cancelled());
        });
    }
}

TEST_P(Cancelling, after_it_is_over) {
    play(true, [](Row& row, Task<> task) -> Coro<> {
        co_await row.complete();
        co_await task;
        EXPECT_FALSE(task.cancel());
        EXPECT_FALSE(task.cancelled());
        EXPECT_EQ(task.cancelling(), 0);
    });
}

TEST_P(Cancelling, twice) {
    for (int distance = 0; distance < TURNS; ++distance) {
        SCOPED_TRACE(distance);
        play(true, [distance](Row&, Task<> task) -> Coro<> {
            EXPECT_TRUE(task.cancel("one"));
            co_await turns(distance);
            bool again = task.cancel("two");
            std::string error = co_await thrown_by_await(task);
            EXPECT_EQ(error.substr(0, 14), "CancelledError");
            EXPECT_TRUE(task.cancelled());
            EXPECT_EQ(task.cancelling(), again ? 2 : 1);
        });
    }
}

TEST_P(Cancelling, during_its_cleanup) {
    std::string log;
    play(
        true,
        [](Row&, Task<> task) -> Coro<> {
            EXPECT_TRUE(task.cancel("one"));
            co_await sleep(1s);
            EXPECT_FALSE(task.done());
            EXPECT_TRUE(task.cancel("two"));
            std::string error = co_await thrown_by_await(task);
            EXPECT_EQ(error.substr(0, 14), "CancelledError");
            EXPECT_TRUE(task.cancelled());
            EXPECT_EQ(task.cancelling(), 2);
        },
        &log);
    EXPECT_EQ(log.substr(0, 20), "wait: CancelledError");
    EXPECT_NE(log.find("cleanup: CancelledError: two"), std::string::npos) << log;
}

TEST_P(Cancelling, by_destroying_the_loop) {
    long before = Alive::count();
    LogRecorder quiet;
    {
        auto row = std::get<0>(GetParam()).make();
        auto loop = coil::testing::virtual_loop();
        auto main = [&]() -> Coro<> {
            co_await row->begin();
            co_await waiting_task(*row, tried());
        };
        auto follower = [&]() -> Coro<> {
            Alive alive;
            co_await row->follow();
        };
        {
            Task<> task = loop->create_task(main());
        }
        {
            Task<> behind = loop->create_task(follower());
        }
        for (int i = 0; i < 3; ++i) run_one_turn(*loop);
        loop->close();
        loop.reset();
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST_P(Cancelling, by_destroying_the_loop_in_the_turns_after_its_completion) {
    for (int distance = 0; distance < TURNS; ++distance) {
        SCOPED_TRACE(distance);
        long before = Alive::count();
        LogRecorder quiet;
        {
            auto row = std::get<0>(GetParam()).make();
            auto loop = coil::testing::virtual_loop();
            auto main = [&]() -> Coro<> {
                co_await row->begin();
                co_await waiting_task(*row, tried());
            };
            auto completing = [&]() -> Coro<> { co_await row->complete(); };
            {
                Task<> task = loop->create_task(main());
            }
            for (int i = 0; i < 4; ++i) run_one_turn(*loop);
            {
                Task<> completion = loop->create_task(completing());
            }
            for (int i = 0; i < distance; ++i) run_one_turn(*loop);
            loop->close();
            loop.reset();
        }
        EXPECT_EQ(Alive::count(), before);
    }
}
