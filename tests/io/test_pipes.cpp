#include "coil/pipes.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <any>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/certificates.hpp"
#include "support/child.hpp"
#include "support/counting.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::thrown_by;
using support::thrown_by_await;

namespace {

class Pipes : public support::CountingOnBackend {};
ON_EVERY_BACKEND(Pipes);

/// Remembers all that it is told.
class Recorder : public Protocol {
  public:
    void connection_made(std::shared_ptr<Transport> transport) override {
        events += "made ";
        made = transport;
    }
    void data_received(std::string_view bytes) override {
        data += bytes;
        arrived.set();
    }
    bool eof_received() override {
        events += "eof ";
        return true;
    }
    void pause_writing() override { events += "pause "; }
    void resume_writing() override { events += "resume "; }
    void connection_lost(std::exception_ptr error) override {
        events += "lost(" + support::error_text(error) + ")";
        lost.set();
    }

    std::string events;
    std::string data;
    std::weak_ptr<Transport> made;
    Event arrived;
    Event lost;
};

std::shared_ptr<Recorder> recorder() { return std::make_shared<Recorder>(); }

struct Ends {
    int read = -1;
    int write = -1;
};

Ends new_pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    return {ends[0], ends[1]};
}

void put(int fd, std::string_view data) {
    EXPECT_EQ(::write(fd, data.data(), data.size()), static_cast<ssize_t>(data.size()));
}

/// All that a non-blocking descriptor has now.
std::string take(int fd) {
    std::string all;
    std::array<char, 65536> part;
    for (;;) {
        ssize_t size = ::read(fd, part.data(), part.size());
        if (size <= 0) return all;
        all.append(part.data(), static_cast<std::size_t>(size));
    }
}

void make_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST_P(Pipes, the_reading_end_reads_to_the_end) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        auto [transport, protocol] = co_await loop.connect_read_pipe(recorder, r);
        EXPECT_EQ(protocol->events, "made ");
        EXPECT_EQ(std::any_cast<int>(transport->get_extra_info("pipe")), r);
        EXPECT_FALSE(transport->get_extra_info("socket").has_value());
        EXPECT_TRUE(::fcntl(r, F_GETFL) & O_NONBLOCK);
        EXPECT_TRUE(transport->is_reading());
        put(w, "one");
        co_await protocol->arrived.wait();
        EXPECT_EQ(protocol->data, "one");
        put(w, "two");
        ::close(w);
        co_await protocol->lost.wait();
        // That the protocol wants to go on means nothing: there is nothing to go on with.
        EXPECT_EQ(protocol->events, "made eof lost(nothing)");
        EXPECT_EQ(protocol->data, "onetwo");
        EXPECT_TRUE(transport->is_closing());
        EXPECT_FALSE(transport->get_extra_info("pipe").has_value());
        EXPECT_FALSE(is_open(r));
        transport->close();
        transport->abort();
    }());
}

TEST_P(Pipes, the_writing_end_flushes_before_it_closes) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        for (bool by_eof : {false, true}) {
            auto [r, w] = new_pipe();
            make_nonblocking(r);
            auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
            const std::string data(300'000, 'd');
            transport->write(data);
            EXPECT_GT(transport->get_write_buffer_size(), 0u);
            EXPECT_EQ(protocol->events, "made pause ");
            EXPECT_TRUE(transport->can_write_eof());
            by_eof ? transport->write_eof() : transport->close();
            EXPECT_TRUE(transport->is_closing());
            transport->write("ignored: the transport is closing");
            std::string got;
            while (!protocol->lost.is_set()) {
                got += take(r);
                co_await coil::sleep(0s);
            }
            got += take(r);
            EXPECT_TRUE(got == data) << got.size();
            EXPECT_EQ(protocol->events, "made pause resume lost(nothing)");
            EXPECT_FALSE(is_open(w));
            ::close(r);
        }
    }());
}

TEST_P(Pipes, much_goes_through_a_full_pipe) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        auto [reading, sink] = co_await loop.connect_read_pipe(recorder, r);
        auto [writing, source] = co_await loop.connect_write_pipe(recorder, w);
        std::string data;
        for (int i = 0; i < 400'000; ++i) data += std::to_string(i) + ",";
        // In pieces, more of them than one call of the kernel takes.
        std::vector<std::string_view> parts;
        for (std::size_t at = 0; at < data.size(); at += 5000)
            parts.push_back(std::string_view(data).substr(at, 5000));
        writing->writelines(parts);
        reading->pause_reading();
        co_await support::turns(10);
        EXPECT_GT(writing->get_write_buffer_size(), 0u);
        reading->resume_reading();
        writing->close();
        co_await sink->lost.wait();
        EXPECT_TRUE(sink->data == data);
        EXPECT_EQ(source->events, "made pause resume lost(nothing)");
        EXPECT_EQ(sink->events, "made eof lost(nothing)");
    }());
}

TEST_P(Pipes, paused_reading_leaves_the_data_in_the_kernel) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        auto [transport, protocol] = co_await loop.connect_read_pipe(recorder, r);
        transport->pause_reading();
        transport->pause_reading();
        EXPECT_FALSE(transport->is_reading());
        put(w, "later");
        ::close(w);
        co_await coil::sleep(5ms);
        EXPECT_EQ(protocol->data, "");
        EXPECT_EQ(protocol->events, "made ");
        transport->resume_reading();
        transport->resume_reading();
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->data, "later");
        EXPECT_EQ(protocol->events, "made eof lost(nothing)");
    }());
}

TEST_P(Pipes, a_writer_notices_that_the_reader_is_gone) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        {
            auto [r, w] = new_pipe();
            auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
            ::close(r);
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(nothing)");
            EXPECT_FALSE(is_open(w));
        }
        {
            auto [r, w] = new_pipe();
            auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
            transport->write(std::string(300'000, 'x'));
            ::close(r);
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made pause lost(BrokenPipeError: [Errno 32] Broken pipe)");
        }
        {
            auto [r, w] = new_pipe();
            auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
            ::close(r);
            transport->write("nobody reads it");
            EXPECT_TRUE(transport->is_closing());
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(BrokenPipeError: [Errno 32] Broken pipe)");
        }
        {  // Gone before the transport is there.
            auto [r, w] = new_pipe();
            ::close(r);
            auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
            co_await protocol->lost.wait();
            EXPECT_EQ(protocol->events, "made lost(nothing)");
        }
    }());
}

TEST_P(Pipes, raise_no_sigpipe) {
    auto result = support::in_child([this] {
        return coil::run(
            []() -> Coro<int> {
                EventLoop& loop = get_running_loop();
                auto [r, w] = new_pipe();
                auto [transport, protocol] = co_await loop.connect_write_pipe(recorder, w);
                ::close(r);
                for (int i = 0; i < 3; ++i) transport->write("x");
                co_await protocol->lost.wait();
                co_return protocol->events == "made lost(BrokenPipeError: [Errno 32] Broken pipe)" ? 0 : 1;
            }(),
            {.loop_factory = factory()});
    });
    EXPECT_EQ(result.signal, 0);
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(Pipes, a_lost_writer_warns_once) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        auto [r, w] = new_pipe();
        auto [transport, protocol] = co_await get_running_loop().connect_write_pipe(recorder, w);
        ::close(r);
        for (int i = 0; i < 20; ++i) transport->write("x");
        co_await protocol->lost.wait();
        for (int i = 0; i < 20; ++i) transport->write("x");
    }());
    EXPECT_EQ(log.count("write() on a pipe transport that is lost"), 1u) << log.str();
}

TEST_P(Pipes, the_other_direction_is_a_runtime_error) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        auto [reading, sink] = co_await loop.connect_read_pipe(recorder, r);
        auto [writing, source] = co_await loop.connect_write_pipe(recorder, w);
        EXPECT_EQ(thrown_by([&] { reading->write("x"); }),
                  "RuntimeError: this transport is for reading only");
        EXPECT_EQ(thrown_by([&] { reading->writelines({"x", "y"}); }),
                  "RuntimeError: this transport is for reading only");
        EXPECT_EQ(thrown_by([&] { reading->write_eof(); }),
                  "RuntimeError: this transport is for reading only");
        EXPECT_FALSE(reading->can_write_eof());
        EXPECT_EQ(thrown_by([&] { writing->pause_reading(); }),
                  "RuntimeError: this transport is for writing only");
        EXPECT_EQ(thrown_by([&] { writing->resume_reading(); }),
                  "RuntimeError: this transport is for writing only");
        EXPECT_FALSE(writing->is_reading());
        // The descriptors are the transports'.
        EXPECT_THROW(loop.add_reader(r, [] {}), RuntimeError);
        EXPECT_THROW(loop.add_writer(w, [] {}), RuntimeError);
        writing->write("still works");
        writing->close();
        co_await sink->lost.wait();
        EXPECT_EQ(sink->data, "still works");
    }());
}

TEST_P(Pipes, a_fifo_is_a_pipe) {
    support::TemporaryDirectory directory;
    run([](std::string path) -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
        int r = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        int w = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        auto [reading, sink] = co_await loop.connect_read_pipe(recorder, r);
        auto [writing, source] = co_await loop.connect_write_pipe(recorder, w);
        writing->write("through a fifo");
        writing->close();
        co_await sink->lost.wait();
        EXPECT_EQ(sink->data, "through a fifo");
        EXPECT_EQ(sink->events, "made eof lost(nothing)");
    }(directory.path("fifo")));
}

TEST_P(Pipes, sockets_are_pipes_of_one_direction) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        int at_b = b.fileno();
        auto [reading, sink] = co_await loop.connect_read_pipe(recorder, a.detach());
        auto [writing, source] = co_await loop.connect_write_pipe(recorder, b.detach());
        writing->write("through a socket");
        co_await sink->arrived.wait();
        EXPECT_EQ(sink->data, "through a socket");
        EXPECT_TRUE(is_open(at_b));
        // The reader's end goes: the writer has nothing to write to.
        reading->close();
        co_await source->lost.wait();
        EXPECT_EQ(source->events, "made lost(nothing)");
        EXPECT_EQ(sink->events, "made lost(nothing)");
    }());
}

TEST_P(Pipes, a_terminal_is_a_pipe) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        int terminal = -1;
        int program = -1;
        EXPECT_EQ(::openpty(&terminal, &program, nullptr, nullptr, nullptr), 0);
        termios raw{};
        ::tcgetattr(program, &raw);
        ::cfmakeraw(&raw);
        ::tcsetattr(program, TCSANOW, &raw);
        int program_out = ::fcntl(program, F_DUPFD_CLOEXEC, 0);
        auto [reading, sink] = co_await loop.connect_read_pipe(recorder, program);
        auto [writing, source] = co_await loop.connect_write_pipe(recorder, program_out);
        put(terminal, "typed");
        co_await sink->arrived.wait();
        EXPECT_EQ(sink->data, "typed");
        writing->write("shown");
        make_nonblocking(terminal);
        std::string shown;
        while (shown.size() < 5) {
            shown += take(terminal);
            co_await coil::sleep(0s);
        }
        EXPECT_EQ(shown, "shown");
        // The terminal hangs up.
        ::close(terminal);
        co_await sink->lost.wait();
        co_await source->lost.wait();
        EXPECT_EQ(source->events, "made lost(nothing)");
        EXPECT_TRUE(sink->events.starts_with("made ")) << sink->events;
    }());
}

TEST_P(Pipes, what_is_no_pipe_is_a_value_error) {
    support::TemporaryDirectory directory;
    std::string path = directory.write("file", "text");
    run([](std::string file) -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto connect = [&](int fd, bool reading) -> Coro<> {
            if (reading) {
                co_await loop.connect_read_pipe(recorder, fd);
            } else {
                co_await loop.connect_write_pipe(recorder, fd);
            }
        };
        for (bool reading : {true, false}) {
            int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
            EXPECT_EQ(co_await thrown_by_await(connect(fd, reading)),
                      "ValueError: Pipe transport is only for pipes, sockets and character devices");
            EXPECT_FALSE(is_open(fd)) << "it was given away";
            EXPECT_EQ(co_await thrown_by_await(connect(-1, reading)),
                      "ValueError: a file descriptor is not negative");
            EXPECT_EQ(co_await thrown_by_await(connect(1'000'000, reading)),
                      "OSError: [Errno 9] Bad file descriptor");
        }
    }(path));
}

TEST_P(Pipes, exceptions_in_callbacks) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        told.record(get_running_loop());
        struct Failing final : Recorder {
            void data_received(std::string_view) override { throw ValueError("no data please"); }
        };
        auto [r, w] = new_pipe();
        auto [transport, protocol] =
            co_await get_running_loop().connect_read_pipe([] { return std::make_shared<Failing>(); }, r);
        put(w, "x");
        co_await protocol->lost.wait();
        EXPECT_EQ(protocol->events, "made lost(ValueError: no data please)");
        ::close(w);

        struct FailingAtEnd final : Recorder {
            bool eof_received() override { throw ValueError("no end please"); }
        };
        auto [r2, w2] = new_pipe();
        auto [second, at_end] = co_await get_running_loop().connect_read_pipe(
            [] { return std::make_shared<FailingAtEnd>(); }, r2);
        ::close(w2);
        co_await at_end->lost.wait();
        EXPECT_EQ(at_end->events, "made lost(nothing)");
    }(reports));
    ASSERT_EQ(reports.size(), 2u);
    EXPECT_EQ(reports.texts()[0],
              "Fatal error: protocol.data_received() call failed.: ValueError: no data please");
    EXPECT_EQ(reports[1].error, "ValueError: no end please");
}

TEST_P(Pipes, a_factory_that_throws_closes_the_descriptor) {
    run([]() -> Coro<> {
        auto fail = []() -> std::shared_ptr<Recorder> { throw ValueError("no protocol"); };
        auto [r, w] = new_pipe();
        EXPECT_EQ(co_await thrown_by_await(get_running_loop().connect_read_pipe(fail, r)),
                  "ValueError: no protocol");
        EXPECT_FALSE(is_open(r));
        EXPECT_EQ(co_await thrown_by_await(get_running_loop().connect_write_pipe(fail, w)),
                  "ValueError: no protocol");
        EXPECT_FALSE(is_open(w));
    }());
}

TEST_P(Pipes, streams_over_a_pipe_made_by_hand) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        StreamReader reader;
        auto for_reading = [&] { return std::make_shared<StreamReaderProtocol>(reader); };
        auto [reading, read_protocol] = co_await loop.connect_read_pipe(for_reading, r);
        StreamReader unused;
        auto for_writing = [&] { return std::make_shared<StreamReaderProtocol>(unused); };
        auto [writing, write_protocol] = co_await loop.connect_write_pipe(for_writing, w);
        StreamWriter writer(writing, write_protocol, std::nullopt);
        const std::string block(100'000, 'b');
        auto produce = [](StreamWriter to, const std::string& text) -> Coro<> {
            for (int i = 0; i < 20; ++i) {
                to.write(text + "\n");
                co_await to.drain();
            }
            to.close();
            co_await to.wait_closed();
        };
        auto producing = create_task(produce(writer, block));
        for (int i = 0; i < 20; ++i) EXPECT_TRUE(co_await reader.readexactly(100'001) == block + "\n");
        EXPECT_EQ(co_await reader.read(), "");
        co_await producing;
    }());
}

TEST_P(Pipes, drain_fails_when_the_reader_goes) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [r, w] = new_pipe();
        StreamReader unused;
        auto make = [&] { return std::make_shared<StreamReaderProtocol>(unused); };
        auto [writing, protocol] = co_await loop.connect_write_pipe(make, w);
        StreamWriter writer(writing, protocol, std::nullopt);
        writer.write(std::string(300'000, 'x'));
        auto draining = create_task(thrown_by_await(writer.drain()));
        co_await support::turns(3);
        EXPECT_FALSE(draining.done());
        ::close(r);
        EXPECT_EQ(co_await draining, "BrokenPipeError: [Errno 32] Broken pipe");
    }());
}

TEST_P(Pipes, connecting_can_be_cancelled_at_every_turn) {
    long alive = support::Alive::count();
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        struct Counted final : Protocol {
            support::Alive here;
        };
        auto make = [] { return std::make_shared<Counted>(); };
        for (int round = 0; round < 1000; ++round) {
            auto [r, w] = new_pipe();
            auto reading = create_task(loop.connect_read_pipe(make, r));
            auto writing = create_task(loop.connect_write_pipe(make, w));
            co_await support::turns(round % 6);
            reading.cancel();
            writing.cancel();
            auto read_end = co_await try_await(std::move(reading));
            auto write_end = co_await try_await(std::move(writing));
            if (read_end) read_end.value().transport->close();
            if (write_end) write_end.value().transport->close();
            co_await support::turns(2);
            EXPECT_FALSE(is_open(r));
            EXPECT_FALSE(is_open(w));
        }
    }());
    EXPECT_EQ(support::Alive::count(), alive);
}

TEST_P(Pipes, a_transport_that_nobody_holds_stays_open) {
    run([]() -> Coro<> {
        auto protocol = recorder();
        auto [r, w] = new_pipe();
        co_await get_running_loop().connect_read_pipe([&] { return protocol; }, r);
        co_await support::turns(5);
        put(w, "heard");
        co_await protocol->arrived.wait();
        EXPECT_EQ(protocol->data, "heard");
        EXPECT_FALSE(protocol->made.expired());
        protocol->made.lock()->close();
        co_await protocol->lost.wait();
        co_await support::turns(2);
        EXPECT_TRUE(protocol->made.expired());
        ::close(w);
    }());
}

TEST_P(Pipes, a_loop_that_ends_with_open_pipes_closes_them) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        auto [r, w] = new_pipe();
        auto [reading, sink] = co_await get_running_loop().connect_read_pipe(recorder, r);
        auto [writing, source] = co_await get_running_loop().connect_write_pipe(recorder, w);
        reading->pause_reading();
        writing->write(std::string(300'000, 'x'));
    }());
    EXPECT_EQ(log.count("unclosed transport"), 2u) << log.str();
}

}  // namespace
