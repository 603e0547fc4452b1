// Signals at any moment: another process sends them in rounds, and begins no round before all signals of the last were handled.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

#include "coil/exceptions.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

/// Has the handlers and the process that sends. A signal that gets lost is a failure after some time.
class Storm {
  public:
    Storm(EventLoop& loop, std::vector<int> signals, int rounds, std::function<void()> on_signal = nullptr)
        : loop_(loop), signals_(std::move(signals)), rounds_left_(rounds), on_signal_(std::move(on_signal)) {
        for (int number : signals_) listen(number);
        time_is_up_ = loop.call_later(20s, [this] { give_up(); });
        if (::pipe(ends_.data()) < 0) throw_os_error(errno);
        pid_t receiver = ::getpid();
        sender_ = ::fork();
        if (sender_ == 0) send(receiver);
        ::close(ends_[0]);
    }
    ~Storm() {
        ::close(ends_[1]);  // the sender is at its end, or this is
        ::waitpid(sender_, nullptr, 0);
        time_is_up_.cancel();
        for (int number : signals_) loop_.remove_signal_handler(number);
    }
    Storm(const Storm&) = delete;
    Storm& operator=(const Storm&) = delete;

    /// Replaces the handler, if there is one.
    void listen(int number) {
        loop_.add_signal_handler(number, [this] { handled(); });
    }
    bool over() const noexcept { return rounds_left_ == 0; }

  private:
    void handled() {
        if (on_signal_) on_signal_();
        if (++handled_ < signals_.size()) return;
        handled_ = 0;
        if (--rounds_left_ == 0) loop_.stop();
        EXPECT_EQ(::write(ends_[1], "", 1), 1);
    }
    void give_up() {
        ADD_FAILURE() << "a signal was lost, " << rounds_left_ << " rounds before the end";
        rounds_left_ = 0;
        loop_.stop();
    }
    [[noreturn]] void send(pid_t receiver) {
        ::close(ends_[1]);
        for (int left = rounds_left_; left > 0; --left) {
            char seen = 0;
            for (int number : signals_) ::kill(receiver, number);
            if (::read(ends_[0], &seen, 1) != 1) break;
        }
        ::_exit(0);
    }

    EventLoop& loop_;
    const std::vector<int> signals_;
    int rounds_left_;
    std::function<void()> on_signal_;
    std::size_t handled_ = 0;
    TimerHandle time_is_up_;
    std::array<int, 2> ends_{};
    pid_t sender_ = -1;
};

/// Calls itself in each turn while the storm lasts: the loop never sleeps.
void keep_busy(EventLoop& loop, const Storm& storm) {
    if (!storm.over()) loop.call_soon([&] { keep_busy(loop, storm); });
}

/// As that, in pieces of time that are shorter than a round: the loop falls asleep and wakes up all the time.
void keep_restless(EventLoop& loop, const Storm& storm) {
    if (!storm.over()) loop.call_later(3us, [&] { keep_restless(loop, storm); });
}

class SignalStorms : public OnBackend {};
ON_EVERY_BACKEND(SignalStorms);

constexpr int ROUNDS = 2'000;

}  // namespace

TEST_P(SignalStorms, wake_a_loop_that_sleeps) {
    Storm storm(loop(), {SIGUSR1}, ROUNDS);
    loop().run_forever();
    EXPECT_TRUE(storm.over());
}

TEST_P(SignalStorms, reach_a_loop_that_never_sleeps) {
    Storm storm(loop(), {SIGUSR1}, ROUNDS);
    keep_busy(loop(), storm);
    loop().run_forever();
    EXPECT_TRUE(storm.over());
}

TEST_P(SignalStorms, reach_a_loop_that_is_about_to_sleep) {
    Storm storm(loop(), {SIGUSR1}, ROUNDS);
    keep_restless(loop(), storm);
    loop().run_forever();
    EXPECT_TRUE(storm.over());
}

TEST_P(SignalStorms, reach_a_loop_that_starts_and_stops_all_the_time) {
    Storm storm(loop(), {SIGUSR1}, ROUNDS);
    while (!storm.over()) run_one_turn(loop());
}

TEST_P(SignalStorms, wait_for_the_next_run_of_a_loop_that_each_of_them_stops) {
    Storm storm(loop(), {SIGUSR1}, ROUNDS, [this] { loop().stop(); });
    while (!storm.over()) loop().run_forever();
}

TEST_P(SignalStorms, of_many_kinds_lose_none) {
    Storm storm(loop(), {SIGUSR1, SIGUSR2, SIGHUP, SIGCHLD, SIGWINCH, SIGRTMIN, SIGRTMAX}, ROUNDS);
    keep_restless(loop(), storm);
    loop().run_forever();
    EXPECT_TRUE(storm.over());
}

TEST_P(SignalStorms, find_one_of_the_handlers_while_they_are_replaced) {
    ChildResult result = in_child([this] {  // which dies of a signal that finds none
        auto other = make_loop();
        Storm storm(*other, {SIGUSR1}, ROUNDS);
        while (!storm.over()) {
            storm.listen(SIGUSR1);
            run_one_turn(*other);
        }
        return 0;
    });
    EXPECT_EQ(result.signal, 0);
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(SignalStorms, in_other_threads_find_loops_that_come_and_go) {
    ::signal(SIGUSR1, SIG_IGN);
    {
        std::atomic<bool> over{false};
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&over] {
                while (!over) ::raise(SIGUSR1);
            });
        }
        for (int i = 0; i < 300; ++i) {
            auto other = make_loop();
            other->add_signal_handler(SIGUSR1, [&other] { other->stop(); });
            other->run_forever();
            other->close();
        }
        over = true;
    }
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_P(SignalStorms, of_SIGINT_do_no_harm_where_a_handler_listens) {
    ChildResult result = in_child([this] {
        auto other = make_loop();
        int seen = 0;
        other->add_signal_handler(SIGINT, [&] {
            ++seen;
            other->stop();
        });
        for (int i = 0; i < 5; ++i) ::raise(SIGINT);
        other->run_forever();
        other->close();
        return seen;
    });
    EXPECT_EQ(result.signal, 0);
    EXPECT_EQ(result.exit_code, 1) << result.output;
}
