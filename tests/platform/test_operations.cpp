// Operations that the kernel holds, on the backend that has them.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coil/events.hpp"
#include "platform/poller.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"

using namespace coil;
using namespace coil::detail;
using namespace support;
using namespace std::chrono_literals;

namespace {

struct Pipe {
    Pipe() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) < 0) std::abort();
        out = ends[0];
        in = ends[1];
    }
    ~Pipe() {
        ::close(out);
        ::close(in);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    int out;
    int in;
};

/// A read that stays in the kernel until something is written.
struct PipeRead : KernelOp {
    explicit PipeRead(const Pipe& pipe) : KernelOp(Kind::READ, [](Watch&) {}) {
        fd = pipe.out;
        memory = bytes.data();
        size = bytes.size();
    }
    std::array<char, 16> bytes{};
};

class Operations : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!uring_available()) GTEST_SKIP() << "no io_uring here";
        poller = make_poller("uring");
        poller->attach_wakeup(wakeup.fd());
    }
    std::vector<Watch*> wait(Duration limit = 10s) {
        poller->wait(poller->now() + limit);
        return take();
    }
    std::vector<Watch*> take() {
        std::vector<Watch*> ready;
        while (Watch* watch = poller->take_ready()) ready.push_back(watch);
        return ready;
    }
    /// Until the kernel has it.
    void hand_over() {
        poller->look(true);
        EXPECT_TRUE(take().empty());
    }
    using Watches = std::vector<Watch*>;

    Wakeup wakeup;
    std::unique_ptr<Poller> poller;
};

TEST_F(Operations, one_that_is_finished_is_listed_once) {
    Pipe pipe;
    PipeRead read(pipe);
    EXPECT_TRUE(poller->supports(KernelOp::Kind::READ));
    poller->start(read);
    EXPECT_TRUE(read.held);
    EXPECT_TRUE(poller->watching());
    EXPECT_EQ(wait(1ms), Watches());
    ASSERT_EQ(::write(pipe.in, "abc", 3), 3);
    EXPECT_EQ(wait(), Watches{&read});
    EXPECT_FALSE(read.held);
    EXPECT_EQ(read.result, 3);
    EXPECT_EQ(std::string(read.bytes.data(), 3), "abc");
    EXPECT_FALSE(poller->watching());
    EXPECT_EQ(wait(1ms), Watches());
}

TEST_F(Operations, one_that_has_not_begun_is_taken_back_at_once) {
    Pipe pipe;
    PipeRead read(pipe);
    poller->start(read);
    EXPECT_TRUE(poller->cancel(read));
    EXPECT_FALSE(read.held);
    EXPECT_FALSE(poller->cancel(read));
    EXPECT_EQ(wait(1ms), Watches());
}

TEST_F(Operations, one_that_is_cancelled_in_the_kernel_is_listed_when_it_has_let_go) {
    Pipe pipe;
    PipeRead read(pipe);
    PipeRead other(pipe);
    poller->start(read);
    poller->start(other);
    hand_over();
    EXPECT_FALSE(poller->cancel(read));
    EXPECT_TRUE(read.held);
    EXPECT_EQ(wait(), Watches{&read});
    EXPECT_EQ(read.result, -ECANCELED);
    ASSERT_EQ(::write(pipe.in, "x", 1), 1);
    EXPECT_EQ(wait(), Watches{&other});
    EXPECT_EQ(other.result, 1);
}

TEST_F(Operations, thousands_are_cancelled_or_finished_whichever_comes_first) {
    for (int round = 0; round < 2000; ++round) {
        Pipe pipe;
        auto read = std::make_unique<PipeRead>(pipe);
        poller->start(*read);
        if (round % 2) hand_over();
        if (round % 3 == 0) {
            ASSERT_EQ(::write(pipe.in, "x", 1), 1);
        }
        if (poller->cancel(*read)) continue;
        EXPECT_EQ(wait(), Watches{read.get()});
        EXPECT_TRUE(read->result == -ECANCELED || read->result == 1) << read->result;
    }
    EXPECT_FALSE(poller->watching());
}

TEST_F(Operations, after_settle_the_kernel_holds_none_and_another_thread_goes_on_with_them) {
    Pipe pipe;
    PipeRead read(pipe);
    PipeRead cancelled(pipe);
    poller->start(read);
    poller->start(cancelled);
    hand_over();
    EXPECT_FALSE(poller->cancel(cancelled));
    poller->settle();
    EXPECT_EQ(take(), Watches{&cancelled});
    EXPECT_TRUE(read.held);
    EXPECT_FALSE(read.in_kernel);
    std::thread([&] {
        ASSERT_EQ(::write(pipe.in, "abc", 3), 3);
        EXPECT_EQ(wait(), Watches{&read});
    }).join();
    EXPECT_EQ(read.result, 3);
}

TEST_F(Operations, what_finishes_while_settling_is_not_lost) {
    for (int round = 0; round < 300; ++round) {
        Pipe pipe;
        PipeRead read(pipe);
        poller->start(read);
        hand_over();
        ASSERT_EQ(::write(pipe.in, "x", 1), 1);
        poller->settle();
        Watches ready = take();
        if (ready.empty()) ready = wait();
        EXPECT_EQ(ready, Watches{&read});
        EXPECT_EQ(read.result, 1);
    }
}

TEST_F(Operations, more_than_the_ring_has_entries_are_all_carried_out) {
    Pipe pipe;
    std::vector<std::unique_ptr<PipeRead>> reads;
    for (int i = 0; i < 1000; ++i) {
        reads.push_back(std::make_unique<PipeRead>(pipe));
        reads.back()->size = 1;
        poller->start(*reads.back());
    }
    hand_over();
    std::string data(1000, 'x');
    ASSERT_EQ(::write(pipe.in, data.data(), data.size()), 1000);
    std::size_t count = 0;
    while (count < 1000) count += wait().size();
    EXPECT_FALSE(poller->watching());
}

TEST(OperationsElsewhere, epoll_has_none) {
    auto poller = make_poller("epoll");
    EXPECT_FALSE(poller->supports(KernelOp::Kind::READ));
}

}  // namespace
