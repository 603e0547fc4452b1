#include "platform/poller.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coil/events.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"

using namespace coil;
using namespace coil::detail;
using namespace support;
using namespace std::chrono_literals;

namespace {

struct Pair {
    Pair() {
        int fds[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) std::abort();
        a = fds[0];
        b = fds[1];
    }
    ~Pair() {
        ::close(a);
        if (b >= 0) ::close(b);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    void send() const { EXPECT_EQ(::write(b, "x", 1), 1); }
    void drain() const {
        char buffer[256];
        while (::read(a, buffer, sizeof buffer) > 0) {
        }
    }
    int a;
    int b;
};

struct TestWatch : Watch {
    explicit TestWatch(int descriptor, Mode how, std::uint8_t wanted = 0)
        : Watch(descriptor, how, [](Watch&) {}) {
        interest = wanted;
    }
};

class PollerTest : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        if (GetParam() == Backend::URING && !uring_available()) GTEST_SKIP() << "no io_uring here";
        poller = make_poller(name());
        poller->attach_wakeup(wakeup.fd());
    }
    const char* name() const { return GetParam() == Backend::URING ? "uring" : "epoll"; }

    /// The watches that a wait of at most `limit` lists.
    std::vector<Watch*> wait(Duration limit = 50ms) {
        poller->wait(poller->now() + limit);
        return take();
    }
    std::vector<Watch*> take() {
        std::vector<Watch*> ready;
        while (Watch* watch = poller->take_ready()) ready.push_back(watch);
        return ready;
    }
    using Watches = std::vector<Watch*>;

    Wakeup wakeup;
    std::unique_ptr<Poller> poller;
};
INSTANTIATE_TEST_SUITE_P(Backends, PollerTest, ::testing::Values(Backend::EPOLL, Backend::URING),
                         backend_name);

}  // namespace

TEST_P(PollerTest, waits_until_the_deadline_and_not_less) {
    for (Duration delay : {Duration(200us), Duration(3ms), Duration(20ms)}) {
        TimePoint start = poller->now();
        poller->wait(start + delay);
        EXPECT_GE(poller->now() - start, delay);
        EXPECT_EQ(take(), Watches());
    }
    TimePoint start = poller->now();
    poller->wait(start - 1s);
    poller->wait(TimePoint());
    EXPECT_LT(poller->now() - start, 5s);
}

TEST_P(PollerTest, a_level_watch_is_listed_as_long_as_it_is_ready) {
    Pair pair;
    TestWatch watch(pair.a, Watch::Mode::LEVEL, READABLE);
    poller->add(watch);
    EXPECT_EQ(wait(2ms), Watches());
    pair.send();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(wait(), Watches{&watch});
        EXPECT_EQ(watch.ready, READABLE);
        watch.ready = 0;
    }
    pair.drain();
    EXPECT_EQ(wait(2ms), Watches());
    poller->remove(watch);
}

TEST_P(PollerTest, a_level_watch_reports_only_what_it_is_interested_in) {
    Pair pair;
    pair.send();
    TestWatch watch(pair.a, Watch::Mode::LEVEL, WRITABLE);
    poller->add(watch);
    EXPECT_EQ(wait(), Watches{&watch});
    EXPECT_EQ(watch.ready, WRITABLE);
    watch.ready = 0;
    poller->set_interest(watch, READABLE);
    EXPECT_EQ(wait(), Watches{&watch});
    EXPECT_EQ(watch.ready, READABLE);
    watch.ready = 0;
    poller->set_interest(watch, READABLE | WRITABLE);
    EXPECT_EQ(wait(), Watches{&watch});
    EXPECT_EQ(watch.ready, READABLE | WRITABLE);
    poller->remove(watch);
}

TEST_P(PollerTest, an_edge_watch_is_listed_once_for_each_news) {
    Pair pair;
    TestWatch watch(pair.a, Watch::Mode::EDGE);
    poller->add(watch);
    EXPECT_EQ(wait(), Watches{&watch}) << "it can be written to from the beginning";
    EXPECT_TRUE(watch.ready & WRITABLE);
    EXPECT_FALSE(watch.ready & READABLE);
    watch.ready = 0;
    EXPECT_EQ(wait(2ms), Watches());
    pair.send();
    EXPECT_EQ(wait(), Watches{&watch});
    EXPECT_TRUE(watch.ready & READABLE);
    watch.ready = 0;
    EXPECT_EQ(wait(2ms), Watches()) << "unread, but no news";
    pair.send();
    EXPECT_EQ(wait(), Watches{&watch});
    EXPECT_TRUE(watch.ready & READABLE);
    poller->remove(watch);
}

TEST_P(PollerTest, a_closed_peer_is_readable_and_closed) {
    Pair pair;
    TestWatch edge(pair.a, Watch::Mode::EDGE);
    poller->add(edge);
    wait();
    edge.ready = 0;
    ::close(std::exchange(pair.b, -1));
    EXPECT_EQ(wait(), Watches{&edge});
    EXPECT_TRUE(edge.ready & READABLE);
    EXPECT_TRUE(edge.ready & CLOSED);
    poller->remove(edge);
}

TEST_P(PollerTest, a_removed_watch_is_never_touched_again) {
    Pair pair;
    {
        TestWatch watch(pair.a, Watch::Mode::LEVEL, READABLE);
        poller->add(watch);
        wait(1ms);
        pair.send();
        poller->remove(watch);
    }
    EXPECT_EQ(wait(5ms), Watches());
    {
        TestWatch edge(pair.a, Watch::Mode::EDGE);
        poller->add(edge);
        wait(1ms);
        edge.ready = 0;
        pair.send();
        poller->remove(edge);
    }
    EXPECT_EQ(wait(5ms), Watches());
    TestWatch again(pair.a, Watch::Mode::LEVEL, READABLE);
    poller->add(again);
    EXPECT_EQ(wait(), Watches{&again});
    poller->remove(again);
}

TEST_P(PollerTest, removing_before_the_first_wait_is_as_good) {
    Pair pair;
    pair.send();
    for (int i = 0; i < 1000; ++i) {
        TestWatch watch(pair.a, i % 2 ? Watch::Mode::EDGE : Watch::Mode::LEVEL, READABLE);
        poller->add(watch);
        poller->remove(watch);
    }
    EXPECT_EQ(wait(5ms), Watches());
}

TEST_P(PollerTest, adding_and_removing_thousands_of_times_leaves_nothing) {
    Pair pair;
    pair.send();
    std::size_t fds = open_fds();
    for (int i = 0; i < 5000; ++i) {
        TestWatch watch(pair.a, i % 2 ? Watch::Mode::EDGE : Watch::Mode::LEVEL, READABLE);
        poller->add(watch);
        if (i % 3 == 0) {
            EXPECT_EQ(wait(), Watches{&watch});
        }
        poller->remove(watch);
    }
    EXPECT_EQ(open_fds(), fds);
    EXPECT_EQ(wait(5ms), Watches());
}

TEST_P(PollerTest, a_thousand_watches_are_all_listed) {
    // Under the usual limit of 1024 descriptors: pairs are shared by dup().
    constexpr std::size_t COUNT = 600;
    Pair pair;
    std::vector<std::unique_ptr<TestWatch>> watches;
    for (std::size_t i = 0; i < COUNT; ++i) {
        int fd = ::dup(pair.a);
        ASSERT_GE(fd, 0);
        watches.push_back(std::make_unique<TestWatch>(fd, Watch::Mode::LEVEL, READABLE));
        poller->add(*watches.back());
    }
    EXPECT_EQ(wait(2ms), Watches());
    pair.send();
    std::vector<int> listed(COUNT, 0);
    std::size_t missing = COUNT;
    for (int round = 0; round < 20 && missing > 0; ++round) {
        for (Watch* watch : wait()) {
            for (std::size_t i = 0; i < COUNT; ++i) {
                if (watches[i].get() == watch && listed[i]++ == 0) --missing;
            }
        }
    }
    EXPECT_EQ(missing, 0u);
    for (auto& watch : watches) {
        poller->remove(*watch);
        ::close(watch->fd);
    }
    EXPECT_EQ(wait(2ms), Watches());
}

TEST_P(PollerTest, refuses_what_cannot_be_watched) {
    std::FILE* file = std::tmpfile();
    TestWatch regular(::fileno(file), Watch::Mode::LEVEL, READABLE);
    EXPECT_EQ(thrown_by([&] { poller->add(regular); }).substr(0, 26), "PermissionError: [Errno 1]");
    std::fclose(file);
    TestWatch closed(12345, Watch::Mode::EDGE);
    EXPECT_EQ(thrown_by([&] { poller->add(closed); }).substr(0, 18), "OSError: [Errno 9]");
    int directory = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TestWatch folder(directory, Watch::Mode::LEVEL, READABLE);
    EXPECT_EQ(thrown_by([&] { poller->add(folder); }).substr(0, 26), "PermissionError: [Errno 1]");
    ::close(directory);
}

TEST_P(PollerTest, a_wakeup_ends_a_wait_and_is_not_a_watch) {
    for (int i = 0; i < 100; ++i) {
        std::thread other([this] { wakeup.wake(); });
        poller->wait(TimePoint::max());
        other.join();
        EXPECT_EQ(take(), Watches());
    }
}

TEST_P(PollerTest, works_on_in_another_Thread_with_its_watches) {
    Pair pair;
    TestWatch level(pair.a, Watch::Mode::LEVEL, READABLE);
    TestWatch edge(pair.b, Watch::Mode::EDGE);
    poller->add(level);
    poller->add(edge);
    EXPECT_EQ(wait(), Watches{&edge});
    edge.ready = 0;
    pair.send();
    for (int i = 0; i < 3; ++i) {
        std::thread other([&] {
            bool listed = false;
            for (Watch* watch : wait()) listed = listed || watch == &level;
            EXPECT_TRUE(listed);
            level.ready = 0;
        });
        other.join();
    }
    pair.drain();
    EXPECT_EQ(::write(pair.a, "y", 1), 1);
    std::thread other([&] {
        edge.ready = 0;
        for (int i = 0; i < 3 && !(edge.ready & READABLE); ++i) wait();
        EXPECT_TRUE(edge.ready & READABLE);
        wakeup.wake();
        poller->wait(TimePoint::max());
        poller->remove(level);
    });
    other.join();
    poller->remove(edge);
    EXPECT_EQ(wait(2ms), Watches());
}

TEST_P(PollerTest, gives_back_its_descriptors) {
    std::size_t before = open_fds();
    for (int i = 0; i < 50; ++i) {
        auto other = make_poller(name());
        Wakeup own;
        other->attach_wakeup(own.fd());
        other->wait(other->now());
    }
    EXPECT_EQ(open_fds(), before);
}

TEST_P(PollerTest, whose_new_ring_cannot_be_had_closes_nothing_of_others) {
    // A loop that moved to a thread in which no descriptor is left to have.
    ChildResult result = in_child([this] {
        poller->wait(poller->now());
        std::string thrown;
        int stranger = -1;
        std::thread other([&] {
            rlimit before{};
            ::getrlimit(RLIMIT_NOFILE, &before);
            rlimit none{0, before.rlim_max};
            ::setrlimit(RLIMIT_NOFILE, &none);
            thrown = thrown_by([&] { poller->wait(poller->now() + 1ms); });
            ::setrlimit(RLIMIT_NOFILE, &before);
        });
        other.join();
        std::array<int, 8> strangers{};
        for (int& fd : strangers) fd = ::open("/dev/null", O_RDONLY);
        stranger = strangers[0];
        poller.reset();
        for (int fd : strangers) {
            if (::fcntl(fd, F_GETFD) < 0) return 1;
        }
        return stranger >= 0 ? 0 : 2;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.signal, 0) << result.output;
}

// ---- which backend

namespace {

/// The backend that a loop gets in a child with this environment, or what it throws.
std::string backend_in_child(const char* wanted, int forbidden_errno = 0, void (*prepare)() = nullptr) {
    ChildResult result = in_child([&] {
        if (wanted) {
            ::setenv("COIL_BACKEND", wanted, 1);
        } else {
            ::unsetenv("COIL_BACKEND");
        }
        if (forbidden_errno && !forbid_io_uring(forbidden_errno)) {
            std::printf("no seccomp");
            return 0;
        }
        if (prepare) prepare();
        std::string thrown = thrown_by([] {
            EventLoop loop;
            std::printf("%.*s", static_cast<int>(loop.backend().size()), loop.backend().data());
            bool ran = false;
            loop.call_later(1ms, [&] {
                ran = true;
                loop.stop();
            });
            loop.run_forever();
            loop.close();
            if (!ran) std::printf(" but it does not run");
        });
        if (thrown != "nothing") std::printf("%s", thrown.c_str());
        return 0;
    });
    return result.output;
}

}  // namespace

TEST(Backend, is_what_the_environment_says) {
    EXPECT_EQ(backend_in_child("epoll"), "epoll");
    if (uring_available()) {
        EXPECT_EQ(backend_in_child("uring"), "uring");
        EXPECT_EQ(backend_in_child(nullptr), "uring");
        EXPECT_EQ(backend_in_child(""), "uring");
    }
    EXPECT_EQ(backend_in_child("kqueue").substr(0, 10), "ValueError");
}

TEST(Backend, falls_back_to_epoll_silently_where_io_uring_is_forbidden_or_missing) {
    for (int error : {EPERM, ENOSYS, ENOMEM, EINVAL, EACCES}) {
        std::string backend = backend_in_child(nullptr, error);
        if (backend == "no seccomp") GTEST_SKIP() << "filters are forbidden here";
        EXPECT_EQ(backend, "epoll") << error;
    }
}

TEST(Backend, asked_for_by_name_that_cannot_be_had_is_an_OSError) {
    std::string thrown = backend_in_child("uring", EPERM);
    if (thrown == "no seccomp") GTEST_SKIP() << "filters are forbidden here";
    EXPECT_EQ(thrown.substr(0, 26), "PermissionError: [Errno 1]");
    EXPECT_EQ(backend_in_child("uring", ENOSYS).substr(0, 19), "OSError: [Errno 38]");
    EXPECT_EQ(backend_in_child("epoll", ENOSYS), "epoll");
}

TEST(Backend, falls_back_where_memory_may_not_be_locked) {
    std::string backend = backend_in_child(nullptr, 0, [] {
        rlimit none{0, 0};
        ::setrlimit(RLIMIT_MEMLOCK, &none);
    });
    EXPECT_TRUE(backend == "epoll" || backend == "uring") << backend;
}
