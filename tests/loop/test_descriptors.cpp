#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace support;

namespace {

using Log = std::vector<std::string>;

/// Two connected, non-blocking descriptors.
struct Pair {
    Pair() {
        int fds[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) std::abort();
        a = fds[0];
        b = fds[1];
    }
    ~Pair() {
        close_a();
        close_b();
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    void close_a() {
        if (a >= 0) ::close(std::exchange(a, -1));
    }
    void close_b() {
        if (b >= 0) ::close(std::exchange(b, -1));
    }
    void send_to_a(std::string_view text) const {
        ASSERT_EQ(::write(b, text.data(), text.size()), ssize_t(text.size()));
    }
    std::string read_a() const {
        char buffer[256];
        ssize_t size = ::read(a, buffer, sizeof buffer);
        return size > 0 ? std::string(buffer, static_cast<std::size_t>(size)) : "";
    }
    int a;
    int b;
};

class Descriptors : public OnBackend {
  protected:
    /// Runs the loop for a while, in which everything that is due has come.
    void run_for(Duration time = 20ms) {
        loop().call_later(time, [this] { loop().stop(); });
        loop().run_forever();
    }
    Log log;
};
ON_EVERY_BACKEND(Descriptors);

}  // namespace

TEST_P(Descriptors, a_reader_is_called_when_there_is_something_to_read) {
    Pair pair;
    loop().add_reader(pair.a, [&] {
        log.push_back(pair.read_a());
        if (log.size() == 2) loop().stop();
    });
    run_for();
    EXPECT_EQ(log, Log());
    pair.send_to_a("one");
    loop().call_later(5ms, [&] { pair.send_to_a("two"); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"one", "two"}));
    EXPECT_TRUE(loop().remove_reader(pair.a));
}

TEST_P(Descriptors, a_reader_is_called_every_turn_while_it_is_readable) {
    Pair pair;
    pair.send_to_a("abc");
    int calls = 0;
    loop().add_reader(pair.a, [&] {
        char one;
        ++calls;
        if (::read(pair.a, &one, 1) == 1) log.push_back(std::string(1, one));
    });
    run_for();
    EXPECT_EQ(log, (Log{"a", "b", "c"}));
    EXPECT_EQ(calls, 3);
    loop().remove_reader(pair.a);
}

TEST_P(Descriptors, an_unread_descriptor_keeps_calling) {
    Pair pair;
    pair.send_to_a("x");
    int calls = 0;
    loop().add_reader(pair.a, [&] {
        if (++calls == 10) loop().stop();
    });
    loop().run_forever();
    EXPECT_EQ(calls, 10);
    loop().remove_reader(pair.a);
}

TEST_P(Descriptors, a_writer_is_called_while_there_is_room) {
    Pair pair;
    int calls = 0;
    std::array<char, 4096> block{};
    loop().add_writer(pair.a, [&] {
        ++calls;
        while (::write(pair.a, block.data(), block.size()) > 0) {
        }
    });
    run_for();
    EXPECT_GE(calls, 1);
    int before = calls;
    run_for();
    EXPECT_EQ(calls, before) << "full";
    while (::read(pair.b, block.data(), block.size()) > 0) {
    }
    run_for();
    EXPECT_GT(calls, before);
    EXPECT_TRUE(loop().remove_writer(pair.a));
}

TEST_P(Descriptors, reader_and_writer_of_one_descriptor_are_independent_and_the_reader_comes_first) {
    Pair pair;
    pair.send_to_a("x");
    loop().add_writer(pair.a, [&] {
        log.push_back("write");
        loop().remove_writer(pair.a);
    });
    loop().add_reader(pair.a, [&] {
        log.push_back("read " + pair.read_a());
        loop().remove_reader(pair.a);
    });
    run_for();
    EXPECT_EQ(log, (Log{"read x", "write"}));
    EXPECT_FALSE(loop().remove_reader(pair.a));
    EXPECT_FALSE(loop().remove_writer(pair.a));
}

TEST_P(Descriptors, adding_again_replaces_and_drops_the_former_callback) {
    long before = Alive::count();
    Pair pair;
    loop().add_reader(pair.a, [&, alive = Alive()] { log.push_back("old"); });
    loop().add_reader(pair.a, [&, alive = Alive()] {
        log.push_back("new");
        pair.read_a();
    });
    EXPECT_EQ(Alive::count(), before + 1);
    pair.send_to_a("x");
    run_for();
    EXPECT_EQ(log, (Log{"new"}));
    EXPECT_TRUE(loop().remove_reader(pair.a));
    EXPECT_EQ(Alive::count(), before);
}

TEST_P(Descriptors, a_reader_may_replace_and_remove_itself) {
    Pair pair;
    pair.send_to_a("x");
    loop().add_reader(pair.a, [&] {
        log.push_back("first");
        loop().add_reader(pair.a, [&] {
            log.push_back("second");
            loop().remove_reader(pair.a);
        });
    });
    run_for();
    EXPECT_EQ(log, (Log{"first", "second"}));
}

TEST_P(Descriptors, removed_in_the_batch_in_which_it_is_ready_it_is_not_called) {
    Pair first;
    Pair second;
    first.send_to_a("x");
    second.send_to_a("x");
    auto reader = [&](Pair& other, std::string name) {
        return [&, name] {
            log.push_back(name);
            loop().remove_reader(other.a);
        };
    };
    loop().add_reader(first.a, reader(second, "one"));
    loop().add_reader(second.a, reader(first, "one"));
    loop().call_soon([&] { loop().call_soon([&] { loop().call_soon([&] { loop().stop(); }); }); });
    loop().run_forever();
    for (const std::string& line : log) EXPECT_EQ(line, "one");
    bool removed_one = loop().remove_reader(first.a) != loop().remove_reader(second.a);
    EXPECT_TRUE(removed_one) << "whichever came first removed the other before it ran";
}

TEST_P(Descriptors, a_closed_peer_is_readable) {
    Pair pair;
    loop().add_reader(pair.a, [&] {
        char byte;
        log.push_back("read " + std::to_string(::read(pair.a, &byte, 1)));
        loop().remove_reader(pair.a);
        loop().stop();
    });
    loop().call_later(2ms, [&] { pair.close_b(); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"read 0"}));
}

TEST_P(Descriptors, a_hang_up_wakes_the_writer_of_a_pipe) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    std::array<char, 4096> block{};
    while (::write(ends[1], block.data(), block.size()) > 0) {
    }
    loop().add_writer(ends[1], [&] {
        log.push_back("writable");
        loop().remove_writer(ends[1]);
        loop().stop();
    });
    loop().call_later(2ms, [&] { ::close(ends[0]); });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"writable"}));
    ::close(ends[1]);
}

TEST_P(Descriptors, a_regular_file_is_refused) {
    char name[] = "coil_test_XXXXXX";
    std::FILE* file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    std::string thrown = thrown_by([&] { loop().add_reader(::fileno(file), [] {}); });
    EXPECT_EQ(thrown.substr(0, 26), "PermissionError: [Errno 1]") << name;
    EXPECT_FALSE(loop().remove_reader(::fileno(file)));
    std::fclose(file);
}

TEST_P(Descriptors, a_closed_descriptor_is_refused) {
    Pair pair;
    int fd = pair.a;
    pair.close_a();
    EXPECT_EQ(thrown_by([&] { loop().add_reader(fd, [] {}); }).substr(0, 18), "OSError: [Errno 9]");
    EXPECT_EQ(thrown_by([&] { loop().add_writer(fd, [] {}); }).substr(0, 18), "OSError: [Errno 9]");
    EXPECT_FALSE(loop().remove_reader(fd));
}

TEST_P(Descriptors, removing_one_direction_after_the_descriptor_was_closed_does_not_abort) {
    ChildResult result = in_child([this] {
        auto other = make_loop();
        Pair pair;
        other->add_reader(pair.a, [] {});
        other->add_writer(pair.a, [] {});
        run_one_turn(*other);
        int fd = pair.a;
        pair.close_a();
        thrown_by([&] { return other->remove_reader(fd); });  // may throw; must not end the process
        thrown_by([&] { return other->remove_writer(fd); });
        other->close();
        return 0;
    });
    EXPECT_EQ(result.signal, 0) << result.output;
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(Descriptors, the_same_number_can_be_watched_again_after_remove_and_close) {
    for (int round = 0; round < 20; ++round) {
        Pair pair;
        bool called = false;
        loop().add_reader(pair.a, [&] {
            called = true;
            loop().remove_reader(pair.a);
            loop().stop();
        });
        pair.send_to_a("x");
        loop().run_forever();
        EXPECT_TRUE(called);
    }
}

TEST_P(Descriptors, a_removed_and_closed_descriptor_is_let_go_by_the_kernel) {
    Pair pair;
    loop().add_reader(pair.a, [] {});
    run_for(2ms);
    loop().remove_reader(pair.a);
    pair.close_a();
    run_for(2ms);
    char byte;
    EXPECT_EQ(::read(pair.b, &byte, 1), 0) << "the peer sees the end";
}

TEST_P(Descriptors, many_are_watched_at_once) {
    constexpr std::size_t COUNT = 400;  // more than one look at the kernel can report
    std::vector<std::unique_ptr<Pair>> pairs;
    std::vector<int> calls(COUNT, 0);
    std::size_t seen = 0;
    for (std::size_t i = 0; i < COUNT; ++i) {
        pairs.push_back(std::make_unique<Pair>());
        loop().add_reader(pairs[i]->a, [&, i] {
            ++calls[i];
            pairs[i]->read_a();
            if (++seen == COUNT) loop().stop();
        });
        pairs[i]->send_to_a("x");
    }
    loop().run_forever();
    for (std::size_t i = 0; i < COUNT; ++i) {
        EXPECT_EQ(calls[i], 1) << i;
        loop().remove_reader(pairs[i]->a);
    }
}

TEST_P(Descriptors, a_failing_reader_is_reported_and_called_again) {
    Pair pair;
    pair.send_to_a("x");
    int reports = 0;
    loop().set_exception_handler([&](EventLoop&, const ExceptionContext&) {
        if (++reports == 3) loop().stop();
    });
    loop().add_reader(pair.a, [] { throw ValueError("reader"); });
    loop().run_forever();
    EXPECT_EQ(reports, 3);
    loop().remove_reader(pair.a);
}

TEST_P(Descriptors, an_interrupt_in_a_reader_keeps_the_other_readers) {
    Pair first;
    Pair second;
    first.send_to_a("x");
    second.send_to_a("x");
    bool thrown = false;
    auto reader = [&](Pair& own) {
        return [&] {
            own.read_a();
            if (!std::exchange(thrown, true)) throw KeyboardInterrupt();
            log.push_back("other");
            loop().stop();
        };
    };
    loop().add_reader(first.a, reader(first));
    loop().add_reader(second.a, reader(second));
    EXPECT_EQ(thrown_by([&] { loop().run_forever(); }), "KeyboardInterrupt");
    loop().run_forever();
    EXPECT_EQ(log, (Log{"other"}));
    loop().remove_reader(first.a);
    loop().remove_reader(second.a);
}

TEST_P(Descriptors, its_callbacks_run_in_the_context_of_their_registration) {
    static ContextVar<int> var("var", 0);
    Pair pair;
    pair.send_to_a("x");
    copy_context().run([&] {
        var.set(6);
        loop().add_reader(pair.a, [&] {
            log.push_back(std::to_string(var.get()));
            loop().stop();
        });
    });
    loop().run_forever();
    EXPECT_EQ(log, (Log{"6"}));
    loop().remove_reader(pair.a);
}

TEST_P(Descriptors, closing_the_loop_drops_them_with_their_callbacks) {
    long before = Alive::count();
    Pair pair;
    loop().add_reader(pair.a, [alive = Alive()] {});
    loop().add_writer(pair.b, [alive = Alive()] {});
    EXPECT_EQ(Alive::count(), before + 2);
    loop().close();
    EXPECT_EQ(Alive::count(), before);
    EXPECT_FALSE(loop().remove_reader(pair.a));
}

TEST_P(Descriptors, a_reader_does_not_starve_timers_and_callbacks) {
    Pair pair;
    pair.send_to_a("x");
    int reads = 0;
    loop().add_reader(pair.a, [&] { ++reads; });
    loop().call_later(10ms, [&] { log.push_back("timer"); });
    run_for(20ms);
    EXPECT_EQ(log, (Log{"timer"}));
    EXPECT_GT(reads, 1);
    loop().remove_reader(pair.a);
}
