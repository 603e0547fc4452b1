// What must hold whoever is cancelled when: random programs on virtual time. Everything happens at whole seconds, in random turns
// of them, so that at the half seconds all has settled: then nobody may be waiting for what is there. A failure names its seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

class Random {
  public:
    explicit Random(unsigned seed) : engine_(seed) {}
    int below(int bound) { return static_cast<int>(engine_() % static_cast<unsigned>(bound)); }
    bool one_in(int n) { return below(n) == 0; }

  private:
    std::mt19937 engine_;
};

/// Plays `program(random)` for each seed, up to the first that fails.
void for_seeds(unsigned count, const std::function<Coro<>(Random&)>& program) {
    for (unsigned seed = 1; seed <= count; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        try {
            Random random(seed);
            run_virtual(program(random));
        } catch (const std::exception& e) {
            ADD_FAILURE() << e.what();
        }
        if (::testing::Test::HasFailure()) return;
    }
}

/// The tasks of a program, and whom it cancels.
class Crowd {
  public:
    explicit Crowd(Random& random) : random_(random) {}

    template <class T>
    void add(Coro<T> coro) {
        tasks_.push_back(create_task(std::move(coro)));
    }
    /// Some turns, and some cancellations, if they are wanted.
    Coro<> disturb(bool cancelling) {
        for (int i = random_.below(6); i > 0; --i) {
            co_await turns(random_.below(3));
            if (!cancelling) continue;
            for (int victims = random_.below(3); victims > 0; --victims) cancel_one();
        }
    }
    void cancel_one() {
        tasks_[static_cast<std::size_t>(random_.below(static_cast<int>(tasks_.size())))].cancel();
    }
    /// Cancels all, again and again: some go on after a cancellation.
    Coro<> end() {
        for (int i = 0; i < 20; ++i) {
            for (Task<>& task : tasks_) task.cancel();
            co_await wait(tasks_, {.timeout = 5s});
        }
        co_await all_done();
    }
    Coro<> all_done() {
        co_await wait(tasks_);
        for (Task<>& task : tasks_) {
            if (task.cancelled()) continue;
            if (auto error = task.exception()) std::rethrow_exception(error);
        }
    }

  private:
    Random& random_;
    std::vector<Task<>> tasks_;
};

/// To the next half second: everything that could go on has gone on.
Coro<> settle() {
    auto second = std::chrono::floor<std::chrono::seconds>(get_running_loop().time());
    co_await sleep(second + 500ms - get_running_loop().time());
}
Coro<> next_second() {
    auto second = std::chrono::floor<std::chrono::seconds>(get_running_loop().time());
    co_await sleep(second + 1s - get_running_loop().time());
}
/// A whole number of seconds and some turns.
Coro<> a_while(Random& random) {
    if (int seconds = random.below(3)) co_await sleep(std::chrono::seconds(seconds));
    co_await turns(random.below(3));
}

// ---- queues

/// What a queue must hold, in the order in which it must give it.
struct Fifo {
    template <class T>
    using Type = Queue<T>;
    static std::size_t next(const std::vector<int>&) { return 0; }
};
struct Lifo {
    template <class T>
    using Type = LifoQueue<T>;
    static std::size_t next(const std::vector<int>& items) { return items.size() - 1; }
};
struct ByPriority {
    struct Less {
        template <class T>
        bool operator()(const T& a, const T& b) const {
            return a->value < b->value;
        }
    };
    template <class T>
    using Type = PriorityQueue<T, Less>;
    static std::size_t next(const std::vector<int>& items) {
        return static_cast<std::size_t>(std::ranges::min_element(items) - items.begin());
    }
};

/// Putters and getters, and beside the queue a model of it: what a put reported to be in it, and nobody has got yet.
template <class Kind>
class QueueProgram {
  public:
    QueueProgram(Random& random, int maxsize) : random_(random), queue_(maxsize), crowd_(random) {}

    Coro<> play() {
        bool cancelling = !random_.one_in(5);
        for (int i = 3 + random_.below(4); i > 0; --i) crowd_.add(putter());
        for (int i = 3 + random_.below(4); i > 0; --i) crowd_.add(getter());
        for (int second = 0; second < 6; ++second) {
            co_await crowd_.disturb(cancelling);
            if (random_.one_in(4) && !queue_.empty()) take(queue_.get_nowait());
            if (random_.one_in(4) && !queue_.full()) put(next_item_++);
            if (cancelling && random_.one_in(3)) crowd_.cancel_one();
            co_await settle();
            check_settled();
            co_await next_second();
            if (random_.one_in(2)) crowd_.add(random_.one_in(2) ? putter() : getter());
        }
        queue_.shutdown();
        co_await crowd_.all_done();
        while (!queue_.empty()) take(queue_.get_nowait());
        EXPECT_TRUE(model_.empty()) << model_.size() << " items are lost";
        co_await queue_.join();
    }

  private:
    using Item = std::unique_ptr<MoveOnly>;

    Coro<> putter() {
        for (int i = 0; i < 8; ++i) {
            int item = next_item_++;
            ++putting_;
            auto outcome = co_await try_await(queue_.put(std::make_unique<MoveOnly>(item)));
            --putting_;
            if (outcome.exception()) {
                if (!outcome.cancelled()) co_return;  // shut down
                if (random_.one_in(2)) co_return;
                continue;
            }
            model_.push_back(item);
            if (random_.one_in(3)) co_await a_while(random_);
        }
    }
    Coro<> getter() {
        for (int i = 0; i < 8; ++i) {
            ++getting_;
            auto outcome = co_await try_await(queue_.get());
            --getting_;
            if (outcome.exception()) {
                if (!outcome.cancelled()) co_return;
                if (random_.one_in(2)) co_return;
                continue;
            }
            take(std::move(*outcome));
            if (random_.one_in(3)) co_await a_while(random_);
        }
    }
    void put(int item) {
        queue_.put_nowait(std::make_unique<MoveOnly>(item));
        model_.push_back(item);
    }
    void take(Item item) {
        if (model_.empty()) {
            ADD_FAILURE() << "item " << item->value << " was never put, or was taken before";
            return;
        }
        auto expected = model_.begin() + static_cast<std::ptrdiff_t>(Kind::next(model_));
        EXPECT_EQ(item->value, *expected) << "lost, doubled or out of order";
        model_.erase(expected);
        queue_.task_done();
    }
    void check_settled() {
        EXPECT_EQ(queue_.qsize(), model_.size());
        EXPECT_TRUE(queue_.empty() || getting_ == 0) << "somebody waits for an item that is there";
        EXPECT_TRUE(queue_.full() || putting_ == 0) << "somebody waits for a slot that is free";
    }

    Random& random_;
    typename Kind::template Type<Item> queue_;
    Crowd crowd_;
    std::vector<int> model_;
    int next_item_ = 0;
    int putting_ = 0;  // inside put() now
    int getting_ = 0;
};

template <class Kind>
class QueueInvariants : public ::testing::Test {};
using QueueKinds = ::testing::Types<Fifo, Lifo, ByPriority>;
TYPED_TEST_SUITE(QueueInvariants, QueueKinds);

}  // namespace

TYPED_TEST(QueueInvariants, no_item_is_lost_or_doubled_and_nobody_waits_for_what_is_there) {
    for (int maxsize : {0, 1, 3}) {
        SCOPED_TRACE("maxsize " + std::to_string(maxsize));
        for_seeds(200, [maxsize](Random& random) -> Coro<> {
            QueueProgram<TypeParam> program(random, maxsize);
            co_await program.play();
        });
    }
}

// ---- locks

namespace {

/// A lock or a semaphore and those who want it, `permits` at a time.
template <class P>
class HoldingProgram {
  public:
    template <class... Args>
    HoldingProgram(Random& random, int permits, Args... args)
        : random_(random), permits_(permits), primitive_(args...), crowd_(random) {}

    Coro<> play() {
        bool cancelling = !random_.one_in(5);
        for (int i = 4 + random_.below(4); i > 0; --i) crowd_.add(worker());
        for (int second = 0; second < 8; ++second) {
            co_await crowd_.disturb(cancelling);
            co_await settle();
            if (waiting_ > 0) {
                EXPECT_EQ(holding_, permits_) << waiting_ << " wait for what nobody holds";
            }
            EXPECT_EQ(primitive_.locked(), holding_ == permits_);
            co_await next_second();
            if (random_.one_in(2)) crowd_.add(worker());
        }
        co_await crowd_.all_done();
        EXPECT_EQ(holding_, 0);
        // As many as at the beginning, and no more.
        for (int i = 0; i < permits_; ++i) {
            EXPECT_FALSE(primitive_.locked()) << "a permit is lost";
            co_await primitive_.acquire();
        }
        EXPECT_TRUE(primitive_.locked()) << "there is one too many";
    }

  private:
    Coro<> worker() {
        for (int i = 0; i < 3; ++i) {
            ++waiting_;
            auto outcome = co_await try_await(primitive_.scoped());
            --waiting_;
            if (outcome.exception()) {
                if (random_.one_in(2)) co_return;
                continue;
            }
            ++holding_;
            EXPECT_LE(holding_, permits_) << "too many hold it";
            auto held = std::move(*outcome);
            auto rest = co_await try_await(a_while(random_));
            --holding_;
            held.release();
            if (rest.exception()) co_return;
            if (random_.one_in(3)) co_await a_while(random_);
        }
    }

    Random& random_;
    int permits_;
    P primitive_;
    Crowd crowd_;
    int waiting_ = 0;
    int holding_ = 0;
};

}  // namespace

TEST(LockInvariants, it_is_never_held_by_two_nor_by_nobody_while_somebody_waits) {
    for_seeds(300, [](Random& random) -> Coro<> {
        HoldingProgram<Lock> program(random, 1);
        co_await program.play();
    });
}

TEST(SemaphoreInvariants, permits_and_holders_are_constant) {
    for (int permits : {1, 2, 4}) {
        SCOPED_TRACE("permits " + std::to_string(permits));
        for_seeds(200, [permits](Random& random) -> Coro<> {
            HoldingProgram<Semaphore> program(random, permits, permits);
            co_await program.play();
        });
        for_seeds(100, [permits](Random& random) -> Coro<> {
            HoldingProgram<BoundedSemaphore> program(random, permits, permits);
            co_await program.play();
        });
    }
}

namespace {

/// Tokens under a lock, each announced to one waiter.
class ConditionProgram {
  public:
    explicit ConditionProgram(Random& random) : random_(random), crowd_(random) {}

    Coro<> play() {
        bool cancelling = !random_.one_in(5);
        for (int i = 3 + random_.below(4); i > 0; --i) crowd_.add(consumer());
        for (int i = 2 + random_.below(2); i > 0; --i) crowd_.add(producer());
        for (int second = 0; second < 8; ++second) {
            co_await crowd_.disturb(cancelling);
            co_await settle();
            if (inside_ == 0) {
                EXPECT_FALSE(condition_.locked());
                EXPECT_TRUE(tokens_ == 0 || waiting_ == 0) << waiting_ << " wait, although there are "
                                                           << tokens_ << " tokens: a notification is lost";
            }
            co_await next_second();
            if (random_.one_in(2)) crowd_.add(random_.one_in(2) ? consumer() : producer());
        }
        co_await crowd_.end();
        EXPECT_FALSE(condition_.locked());
        EXPECT_EQ(inside_, 0);
    }

  private:
    void enter() {
        EXPECT_EQ(++inside_, 1) << "two hold the lock";
        EXPECT_TRUE(condition_.locked());
    }
    Coro<> consumer() {
        for (int i = 0; i < 4; ++i) {
            auto scope = co_await try_await(condition_.scoped());
            if (scope.exception()) continue;
            auto held = std::move(*scope);
            enter();
            auto predicate = [&] {
                EXPECT_TRUE(condition_.locked());
                return tokens_ > 0;
            };
            --inside_;
            ++waiting_;
            auto outcome = co_await try_await(condition_.wait_for(predicate));
            --waiting_;
            enter();
            if (!outcome.exception()) {
                EXPECT_GT(tokens_--, 0);
                if (random_.one_in(2)) co_await try_await(a_while(random_));
            }
            --inside_;
            held.release();
            if (outcome.exception() && random_.one_in(2)) co_return;
        }
    }
    Coro<> producer() {
        for (int i = 0; i < 4; ++i) {
            auto scope = co_await try_await(condition_.scoped());
            if (scope.exception()) continue;
            auto held = std::move(*scope);
            enter();
            int count = 1 + random_.below(2);
            tokens_ += count;
            condition_.notify(static_cast<std::size_t>(count));
            if (random_.one_in(2)) co_await try_await(a_while(random_));
            --inside_;
            held.release();
            co_await a_while(random_);
        }
    }

    Random& random_;
    Condition condition_;
    Crowd crowd_;
    int tokens_ = 0;
    int inside_ = 0;   // hold the lock
    int waiting_ = 0;  // in wait_for()
};

}  // namespace

TEST(ConditionInvariants, no_notification_is_lost_and_the_lock_is_always_held_again) {
    for_seeds(1000, [](Random& random) -> Coro<> {
        ConditionProgram program(random);
        co_await program.play();
    });
}

namespace {

/// Parties that come again and again. The last of a round passes first, with the highest index; the others of that round follow
/// before the next one begins.
class BarrierProgram {
  public:
    BarrierProgram(Random& random, int parties)
        : random_(random), parties_(parties), barrier_(parties), crowd_(random) {}

    Coro<> play() {
        cancelling_ = !random_.one_in(4);
        for (int i = parties_ + random_.below(2 * parties_); i > 0; --i) crowd_.add(party());
        for (int second = 0; second < 8; ++second) {
            co_await crowd_.disturb(cancelling_);
            co_await settle();
            EXPECT_EQ(barrier_.n_waiting(), static_cast<std::size_t>(waiting_));
            EXPECT_LT(waiting_, parties_) << "all are there";
            end_round();
            co_await next_second();
            if (random_.one_in(2)) crowd_.add(party());
        }
        co_await crowd_.end();
        EXPECT_EQ(barrier_.n_waiting(), 0u);
        EXPECT_FALSE(barrier_.broken());
        EXPECT_EQ(waiting_, 0);
    }

  private:
    Coro<> party() {
        for (int i = 0; i < 4; ++i) {
            ++waiting_;
            auto outcome = co_await try_await(barrier_.wait());
            --waiting_;
            if (outcome.exception()) {
                EXPECT_TRUE(outcome.cancelled()) << error_text(outcome.exception());
                ++cancelled_;
                co_return;
            }
            passed(static_cast<int>(*outcome));
            co_await a_while(random_);
        }
    }
    void passed(int index) {
        EXPECT_LT(index, parties_);
        if (index == parties_ - 1) end_round();
        EXPECT_TRUE(index == parties_ - 1 || !in_round_.empty()) << "passed before all were there";
        in_round_.push_back(index);
    }
    /// All parties have passed, but for those that were cancelled meanwhile.
    void end_round() {
        if (!in_round_.empty()) {
            EXPECT_LE(static_cast<int>(in_round_.size()), parties_);
            EXPECT_GE(static_cast<int>(in_round_.size()) + cancelled_, parties_) << "a part was let through";
            if (!cancelling_) {
                // Distinct only without cancellations: in CPython too the next one gets the number of who has left.
                std::ranges::sort(in_round_);
                for (int i = 0; i < parties_; ++i) EXPECT_EQ(in_round_[static_cast<std::size_t>(i)], i);
            }
        }
        in_round_.clear();
        cancelled_ = 0;
    }

    Random& random_;
    int parties_;
    Barrier barrier_;
    Crowd crowd_;
    std::vector<int> in_round_;  // the indexes of those who passed in this round
    int cancelled_ = 0;          // since it began
    int waiting_ = 0;
    bool cancelling_ = false;
};

}  // namespace

TEST(BarrierInvariants, it_never_lets_a_part_through) {
    for (int parties : {1, 2, 4}) {
        SCOPED_TRACE("parties " + std::to_string(parties));
        for_seeds(200, [parties](Random& random) -> Coro<> {
            BarrierProgram program(random, parties);
            co_await program.play();
        });
    }
}

// ---- task groups

namespace {

/// Groups in groups, whose children fail, refuse to be cancelled, take their time to clean up and start others.
class GroupProgram {
  public:
    explicit GroupProgram(Random& random) : random_(random), crowd_(random) {}

    Coro<> play() {
        for (int i = 0; i < 3; ++i) crowd_.add(outermost());
        for (int second = 0; second < 5; ++second) {
            co_await crowd_.disturb(true);
            co_await next_second();
        }
        co_await crowd_.all_done();
    }

  private:
    struct Children {
        std::vector<Task<>> tasks;
        int running = 0;
    };

    Coro<> outermost() { co_await try_await(group(0)); }
    Coro<> group(int depth) {
        Children children;
        auto body = [&](TaskGroup& tasks) -> Coro<> {
            for (int i = random_.below(5); i > 0; --i) start(tasks, children, depth);
            co_await a_while(random_);
            if (random_.one_in(4)) throw ValueError("body");
            if (random_.one_in(6)) tasks.cancel();
            co_await a_while(random_);
        };
        auto outcome = co_await try_await(async_with(TaskGroup(), body));
        EXPECT_EQ(children.running, 0) << "the group has ended, and its children run";
        for (Task<>& task : children.tasks) {
            if (!task.done()) {
                ADD_FAILURE() << "the group has ended, and a child has not";
            } else if (!task.cancelled() && task.exception()) {
                EXPECT_TRUE(outcome.exception()) << "an error is lost";
            }
        }
        outcome.value();
    }
    void start(TaskGroup& tasks, Children& children, int depth) {
        children.tasks.push_back(tasks.create_task(child(tasks, children, depth)));
    }
    Coro<> child(TaskGroup& tasks, Children& children, int depth) {
        ++children.running;
        auto outcome = co_await try_await(work(tasks, children, depth));
        // The cleanup may be cancelled too.
        if (outcome.exception() && random_.one_in(2)) co_await try_await(a_while(random_));
        --children.running;
        if (outcome.cancelled() && random_.one_in(4)) co_return;
        outcome.value();
    }
    Coro<> work(TaskGroup& tasks, Children& children, int depth) {
        co_await a_while(random_);
        if (random_.one_in(5)) throw ValueError("child");
        if (random_.one_in(4) && children.tasks.size() < 10) start(tasks, children, depth);
        if (random_.one_in(4) && depth < 2) co_await group(depth + 1);
        co_await a_while(random_);
    }

    Random& random_;
    Crowd crowd_;
};

}  // namespace

TEST(TaskGroupInvariants, a_group_never_ends_before_its_children) {
    for_seeds(400, [](Random& random) -> Coro<> {
        GroupProgram program(random);
        co_await program.play();
    });
}
