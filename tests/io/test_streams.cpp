#include "coil/streams.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <any>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/sockets.hpp"
#include "support/streams.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::error_text;
using support::hang_up;
using support::run_virtual;
using support::thrown_by;
using support::thrown_by_await;

namespace {

// ---- the reader alone, fed by hand

TEST(StreamReader, reads_lines_and_the_rest_without_a_line_end) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        reader.feed_data("one\ntwo\nrest");
        reader.feed_eof();
        EXPECT_EQ(co_await reader.readline(), "one\n");
        EXPECT_EQ(*co_await reader.next(), "two\n");
        EXPECT_FALSE(reader.at_eof());
        EXPECT_EQ(co_await reader.readline(), "rest");
        EXPECT_TRUE(reader.at_eof());
        EXPECT_EQ(co_await reader.readline(), "");
        EXPECT_FALSE((co_await reader.next()).has_value());
        EXPECT_EQ(co_await reader.read(), "");
    }());
}

TEST(StreamReader, read_gives_what_is_there_up_to_n) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        reader.feed_data("abcdef");
        EXPECT_EQ(co_await reader.read(0), "");
        EXPECT_EQ(co_await reader.read(2), "ab");
        EXPECT_EQ(co_await reader.read(100), "cdef");
        auto task = create_task(reader.read(5));
        co_await coil::sleep(0s);
        EXPECT_FALSE(task.done());
        reader.feed_data("x");
        EXPECT_EQ(co_await task, "x");
        auto all = create_task(reader.read());
        co_await coil::sleep(0s);
        reader.feed_data("12");
        co_await coil::sleep(0s);
        reader.feed_data("3");
        co_await coil::sleep(0s);
        EXPECT_FALSE(all.done());
        reader.feed_eof();
        EXPECT_EQ(co_await all, "123");
    }());
}

TEST(StreamReader, read_into_fills_the_callers_memory) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        reader.feed_data("abcdef");
        std::array<std::byte, 4> memory{};
        EXPECT_EQ(co_await reader.read_into(memory), 4u);
        EXPECT_EQ(static_cast<char>(memory[3]), 'd');
        EXPECT_EQ(co_await reader.read_into(memory), 2u);
        reader.feed_eof();
        EXPECT_EQ(co_await reader.read_into(memory), 0u);
    }());
}

TEST(StreamReader, readexactly_tells_what_it_got_when_the_stream_ends) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        reader.feed_data("abc");
        EXPECT_EQ(co_await reader.readexactly(2), "ab");
        auto task = create_task(reader.readexactly(4));
        co_await coil::sleep(0s);
        reader.feed_data("de");
        reader.feed_eof();
        auto outcome = co_await try_await(task);
        try {
            std::rethrow_exception(outcome.exception());
        } catch (const IncompleteReadError& e) {
            EXPECT_EQ(e.partial(), "cde");
            EXPECT_EQ(e.expected(), 4u);
            EXPECT_STREQ(e.what(), "3 bytes read on a total of 4 expected bytes");
        }
        EXPECT_TRUE(reader.at_eof());
    }());
}

TEST(StreamReader, readuntil_leaves_the_data_when_the_limit_is_overrun) {
    run_virtual([]() -> Coro<> {
        StreamReader reader(8);
        reader.feed_data("0123456789abcdef;rest");
        auto outcome = co_await try_await(reader.readuntil(std::string(";")));
        try {
            std::rethrow_exception(outcome.exception());
        } catch (const LimitOverrunError& e) {
            EXPECT_EQ(e.consumed(), 16u);
            EXPECT_STREQ(e.what(), "Separator is found, but chunk is longer than limit");
        }
        EXPECT_EQ(co_await reader.readexactly(17), "0123456789abcdef;");
        auto none = co_await try_await(reader.readuntil(std::string("")));
        EXPECT_EQ(error_text(none.exception()), "ValueError: Separator should be at least one-byte string");
        reader.feed_eof();
        auto cut = co_await try_await(reader.readuntil(std::string(";")));
        EXPECT_EQ(error_text(cut.exception()),
                  "IncompleteReadError: 4 bytes read on a total of undefined expected bytes");
    }());
}

TEST(StreamReader, a_separator_is_found_wherever_the_data_is_cut) {
    // Every way of cutting a text in three pieces, for separators that overlap themselves.
    const std::string text = "ab\r\r\ncd\n\r\nend--";
    for (std::size_t first = 0; first <= text.size(); ++first) {
        for (std::size_t second = first; second <= text.size(); ++second) {
            run_virtual([](std::string all, std::size_t i, std::size_t j) -> Coro<> {
                StreamReader reader;
                auto feed = [](StreamReader to, std::string data, std::size_t a, std::size_t b) -> Coro<> {
                    to.feed_data(std::string_view(data).substr(0, a));
                    co_await coil::sleep(0s);
                    to.feed_data(std::string_view(data).substr(a, b - a));
                    co_await coil::sleep(0s);
                    to.feed_data(std::string_view(data).substr(b));
                };
                auto feeder = create_task(feed(reader, all, i, j));
                std::vector<std::string> crlf{"\r\n"};
                EXPECT_EQ(co_await reader.readuntil(crlf), "ab\r\r\n");
                EXPECT_EQ(co_await reader.readuntil(crlf), "cd\n\r\n");
                EXPECT_EQ(co_await reader.readuntil(std::string("--")), "end--");
                co_await feeder;
            }(text, first, second));
        }
    }
}

TEST(StreamReader, readline_over_the_limit_drops_the_line_and_goes_on) {
    run_virtual([]() -> Coro<> {
        StreamReader reader(4);
        reader.feed_data("toolongline\nok\n");
        auto outcome = co_await try_await(reader.readline());
        EXPECT_EQ(error_text(outcome.exception()),
                  "ValueError: Separator is found, but chunk is longer than limit");
        EXPECT_EQ(co_await reader.readline(), "ok\n");
    }());
}

TEST(StreamReader, only_one_task_may_wait_for_data) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        auto first = create_task(reader.readline());
        co_await coil::sleep(0s);
        EXPECT_EQ(co_await thrown_by_await(reader.read(1)),
                  "RuntimeError: read() called while another coroutine is already waiting for incoming data");
        reader.feed_data("x\n");
        EXPECT_EQ(co_await first, "x\n");
    }());
}

TEST(StreamReader, a_cancelled_read_loses_no_byte) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        reader.feed_data("ab");
        auto task = create_task(reader.readexactly(4));
        co_await coil::sleep(0s);
        reader.feed_data("c");
        task.cancel();
        co_await try_await(task);
        EXPECT_TRUE(task.cancelled());
        reader.feed_data("d");
        EXPECT_EQ(co_await reader.readexactly(4), "abcd");
    }());
}

TEST(StreamReader, an_exception_is_thrown_by_the_current_and_later_reads) {
    run_virtual([]() -> Coro<> {
        StreamReader reader;
        auto task = create_task(reader.read(1));
        co_await coil::sleep(0s);
        reader.set_exception(std::make_exception_ptr(ConnectionResetError(ECONNRESET)));
        EXPECT_EQ(co_await thrown_by_await(task),
                  "ConnectionResetError: [Errno 104] Connection reset by peer");
        EXPECT_EQ(co_await thrown_by_await(reader.readline()),
                  "ConnectionResetError: [Errno 104] Connection reset by peer");
    }());
}

TEST(StreamReader, an_exception_ends_a_read_of_all) {
    run_virtual([]() -> Coro<> {
        for (std::string_view before : {"", "some"}) {
            StreamReader reader;
            auto task = create_task(reader.read());
            co_await coil::sleep(0s);
            reader.feed_data(before);
            co_await coil::sleep(0s);
            reader.set_exception(std::make_exception_ptr(ConnectionResetError(ECONNRESET)));
            EXPECT_EQ(co_await thrown_by_await(task),
                      "ConnectionResetError: [Errno 104] Connection reset by peer");
        }
    }());
}

TEST(StreamReader, refuses_misuse) {
    EXPECT_EQ(thrown_by([] { return StreamReader(0); }), "ValueError: Limit cannot be <= 0");
    StreamReader reader;
    reader.feed_eof();
    EXPECT_EQ(thrown_by([&] { return reader.feed_data("x"), 0; }), "RuntimeError: feed_data after feed_eof");
}

// ---- over TCP, on every backend

class Streams : public support::OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(Streams);

int port_of(const Server& server) { return server.sockets().at(0).getsockname().port; }

Coro<> echo(StreamReader reader, StreamWriter writer) {
    for (;;) {
        std::string data = co_await reader.read(64 * 1024);
        if (data.empty()) break;
        writer.write(data);
        co_await writer.drain();
    }
    co_await hang_up(writer);
}

TEST_P(Streams, echoes_large_data_in_both_directions_at_once) {
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        std::string sent(8'000'000, '\0');
        for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 + i / 1000);
        auto send = [](StreamWriter to, const std::string& data) -> Coro<> {
            for (std::size_t i = 0; i < data.size(); i += 300'000) {
                to.write(std::string_view(data).substr(i, 300'000));
                co_await to.drain();
            }
            to.write_eof();
        };
        auto sending = create_task(send(writer, sent));
        std::string received = co_await reader.read();
        co_await sending;
        EXPECT_EQ(received.size(), sent.size());
        EXPECT_TRUE(received == sent);
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(Streams, reads_give_each_byte_once_however_the_sizes_change) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [here, there] = Socket::pair();
        auto [reader, writer] = co_await open_connection(std::move(here));
        auto send = [&loop](const Socket& from, const std::string& data) -> Coro<> {
            co_await loop.sock_sendall(from, data);
        };
        std::string got;
        // Some twice in a row: how much came the last time decides how the next read receives.
        static constexpr std::size_t SIZES[] = {1, 2048,  2048,    2176,    2177, 65536, 65536,
                                                3, 65536, 300'000, 300'000, 1,    5000,  5000};
        static constexpr std::size_t MOSTS[] = {7, 2047, 2048, 2176, 65536, 1 << 20};
        for (std::size_t size : SIZES) {
            for (std::size_t most : MOSTS) {
                std::string sent(size, '\0');
                for (std::size_t i = 0; i < size; ++i) sent[i] = static_cast<char>(i * 7 + i / 1000 + most);
                auto sending = create_task(send(there, sent));
                got.clear();
                while (got.size() < size) {
                    std::string part = co_await reader.read(static_cast<std::ptrdiff_t>(most));
                    EXPECT_TRUE(!part.empty() && part.size() <= most) << part.size() << " of " << most;
                    if (part.empty()) co_return;
                    got += part;
                }
                co_await sending;
                EXPECT_TRUE(got == sent) << size << " bytes, at most " << most << " at once";
            }
        }
        // Who keeps a short message does not keep the room for a long one.
        co_await send(there, std::string(100'000, 'x'));
        co_await reader.readexactly(100'000);
        co_await send(there, "short");
        std::string kept = co_await reader.read(1 << 20);
        EXPECT_EQ(kept, "short");
        EXPECT_LT(kept.capacity(), 1000u);
        co_await hang_up(writer);
    }());
}

/// Keeps what it is given.
class Keeper : public Protocol {
  public:
    void data_received(std::string_view bytes) override {
        data += bytes;
        if (data.size() >= enough) complete.set();
    }
    std::string data;
    std::size_t enough = 0;
    coil::Event complete;
};

// The kernel says once that there is something, however much a read takes of it.
TEST_P(Streams, what_a_read_leaves_in_the_kernel_reaches_the_next_operation) {
    run([]() -> Coro<> {
        constexpr std::size_t SIZE = 60'000;
        constexpr std::size_t PART = 4096;
        EventLoop& loop = get_running_loop();
        auto [here, there] = Socket::pair();
        auto [reader, writer] = co_await open_connection(std::move(here));
        auto arrive = [&loop](const Socket& from, char last) -> Coro<> {
            std::string data(SIZE - 1, 'x');
            data += last;
            co_await loop.sock_sendall(from, data);
        };
        co_await loop.sock_sendall(there, std::string(5000, 'x'));
        EXPECT_EQ((co_await reader.read(65536)).size(), 5000u);
        co_await arrive(there, 'x');  // more than the last time: still all of it
        EXPECT_EQ((co_await reader.read(65536)).size(), SIZE);

        co_await arrive(there, 'x');
        EXPECT_EQ((co_await reader.read(PART)).size(), PART);
        EXPECT_EQ((co_await wait_for(reader.readexactly(SIZE - PART), 10s)).size(), SIZE - PART);

        co_await arrive(there, '\n');
        std::array<std::byte, PART> memory;
        EXPECT_EQ(co_await reader.read_into(memory), PART);
        EXPECT_EQ((co_await wait_for(reader.readline(), 10s)).size(), SIZE - PART);

        co_await arrive(there, 'x');
        EXPECT_EQ((co_await reader.read(PART)).size(), PART);
        auto keeper = std::make_shared<Keeper>();
        keeper->enough = SIZE - PART;
        writer.transport()->set_protocol(keeper);
        co_await wait_for(keeper->complete.wait(), 10s);
        EXPECT_EQ(keeper->data.size(), SIZE - PART);
        writer.close();
    }());
}

TEST_P(Streams, what_waits_keeps_the_connection_from_the_call_on) {
    run([]() -> Coro<> {
        auto server = co_await start_server(
            [](StreamReader reader, StreamWriter writer) -> Coro<> {
                co_await reader.read();
                co_await hang_up(writer);
            },
            "127.0.0.1", 0);
        Task<> closing, draining;
        {
            auto streams = co_await open_connection("127.0.0.1", server.sockets().at(0).getsockname().port);
            draining = create_task(streams.writer.drain());
            streams.writer.close();
            closing = create_task(streams.writer.wait_closed());
        }  // neither task has begun
        co_await closing;
        EXPECT_EQ(co_await thrown_by_await(draining), "ConnectionResetError: Connection lost");
    }());
}

TEST_P(Streams, drain_waits_for_a_peer_that_does_not_read) {
    run([]() -> Coro<> {
        coil::Event go_on;
        std::size_t received = 0;
        auto lazy = [&](StreamReader reader, StreamWriter writer) -> Coro<> {
            co_await go_on.wait();
            received = (co_await reader.read()).size();
            co_await hang_up(writer);
        };
        Server server = co_await start_server(lazy, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        std::string block(1 << 20, 'x');
        std::size_t written = 0;
        bool blocked = false;
        // The kernel's buffers and twice the reader's limit fill up; then drain() must wait.
        while (!blocked && written < (std::size_t{64} << 20)) {
            writer.write(block);
            written += block.size();
            auto drained = create_task(writer.drain());
            co_await coil::sleep(20ms);
            if (drained.done()) continue;
            blocked = true;
            EXPECT_GT(writer.transport()->get_write_buffer_size(), 64u * 1024);
            go_on.set();
            co_await drained;
        }
        EXPECT_TRUE(blocked);
        writer.write_eof();
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
        EXPECT_EQ(received, written);
    }());
}

TEST_P(Streams, a_peer_that_sends_byte_by_byte_is_understood) {
    run([]() -> Coro<> {
        auto dribble = [](StreamReader, StreamWriter writer) -> Coro<> {
            for (char c : std::string("first line\nsecond\n")) {
                writer.write(std::string_view(&c, 1));
                co_await coil::sleep(0s);
            }
            co_await hang_up(writer);
        };
        Server server = co_await start_server(dribble, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        EXPECT_EQ(co_await reader.readline(), "first line\n");
        EXPECT_EQ(co_await reader.readline(), "second\n");
        EXPECT_EQ(co_await reader.readline(), "");
        co_await hang_up(writer);
        server.close();
    }());
}

TEST_P(Streams, half_closed_connections_still_answer) {
    run([]() -> Coro<> {
        auto count = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            std::string all = co_await reader.read();
            writer.write(std::to_string(all.size()));
            co_await hang_up(writer);
        };
        Server server = co_await start_server(count, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        EXPECT_TRUE(writer.can_write_eof());
        writer.writelines({"12", "", "345"});
        writer.write_eof();
        EXPECT_EQ(thrown_by([&w = writer] { return w.write("x"), 0; }),
                  "RuntimeError: Cannot call write() after write_eof()");
        EXPECT_EQ(co_await reader.read(), "5");
        co_await hang_up(writer);
        server.close();
    }());
}

/// Closes with a reset instead of an end.
void reset(const StreamWriter& writer) {
    support::close_hard(std::any_cast<TransportSocket>(writer.get_extra_info("socket")));
    writer.transport()->abort();
}

TEST_P(Streams, a_reset_reaches_the_reader_the_drain_and_wait_closed) {
    run([]() -> Coro<> {
        auto rude = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            co_await reader.readexactly(1);
            reset(writer);
        };
        Server server = co_await start_server(rude, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        writer.write("x");
        EXPECT_EQ(co_await thrown_by_await(reader.read(1)),
                  "ConnectionResetError: [Errno 104] Connection reset by peer");
        EXPECT_EQ(co_await thrown_by_await(writer.drain()),
                  "ConnectionResetError: [Errno 104] Connection reset by peer");
        EXPECT_EQ(co_await thrown_by_await(writer.wait_closed()),
                  "ConnectionResetError: [Errno 104] Connection reset by peer");
        EXPECT_TRUE(writer.is_closing());
        server.close();
    }());
}

TEST_P(Streams, a_reset_wakes_who_waits_for_a_drain) {
    run([]() -> Coro<> {
        auto [a, b] = co_await support::tcp_pair();
        auto [reader, writer] = co_await open_connection(std::move(a));
        writer.write(std::string(20'000'000, 'x'));
        auto first = create_task(thrown_by_await(writer.drain()));
        auto second = create_task(thrown_by_await(writer.drain()));
        auto closed = create_task(thrown_by_await(writer.wait_closed()));
        co_await support::turns(3);
        EXPECT_FALSE(first.done() || second.done() || closed.done());
        support::close_hard(b);
        b.close();
        const std::string reset = "ConnectionResetError: [Errno 104] Connection reset by peer";
        EXPECT_EQ(co_await first, reset);
        EXPECT_EQ(co_await second, reset);
        EXPECT_EQ(co_await closed, reset);
    }());
}

TEST_P(Streams, writing_after_the_loss_is_ignored_and_drain_says_so) {
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        co_await hang_up(writer);
        writer.write("nobody");
        EXPECT_EQ(co_await thrown_by_await(writer.drain()), "ConnectionResetError: Connection lost");
        server.close();
    }());
}

TEST_P(Streams, close_flushes_what_is_buffered) {
    run([]() -> Coro<> {
        auto flood = [](StreamReader, StreamWriter writer) -> Coro<> {
            writer.write(std::string(10'000'000, 'f'));
            writer.close();
            co_await writer.wait_closed();
        };
        Server server = co_await start_server(flood, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        co_await coil::sleep(10ms);
        EXPECT_EQ((co_await reader.read()).size(), 10'000'000u);
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(Streams, connecting_to_a_closed_port_is_refused) {
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "127.0.0.1", 0);
        int port = port_of(server);
        server.close();
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", port)),
                  "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', " +
                      std::to_string(port) + ")");
    }());
}

TEST_P(Streams, names_resolve_and_bad_names_are_gai_errors) {
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "localhost", 0);
        auto [reader, writer] = co_await open_connection("localhost", port_of(server));
        EXPECT_EQ(std::any_cast<SocketAddress>(writer.get_extra_info("peername")).port, port_of(server));
        EXPECT_FALSE(writer.get_extra_info("no such thing").has_value());
        co_await hang_up(writer);
        server.close();
        auto failed = co_await try_await(open_connection("no-such-host.invalid", 1));
        EXPECT_THROW(failed.value(), GaiError);
        EXPECT_EQ(co_await thrown_by_await(open_connection("127.0.0.1", 70'000)),
                  "ValueError: a port is 0 to 65535, not 70000");
    }());
}

TEST_P(Streams, a_lookup_can_be_cancelled_and_the_loop_closed_meanwhile) {
    run([]() -> Coro<> {
        auto task = create_task(open_connection("no-such-host.invalid", 1));
        co_await coil::sleep(0s);
        task.cancel();
        co_await try_await(task);
        EXPECT_TRUE(task.cancelled());
    }());
}

TEST_P(Streams, a_failing_callback_is_reported_and_its_connection_closed) {
    support::Reports reports;
    run([](support::Reports& told) -> Coro<> {
        told.record(get_running_loop());
        auto fail = [](StreamReader, StreamWriter) -> Coro<> {
            co_await coil::sleep(0s);
            throw ValueError("no");
        };
        Server server = co_await start_server(fail, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        EXPECT_EQ(co_await reader.read(), "");
        co_await hang_up(writer);
        server.close();
        co_await server.wait_closed();
    }(reports));
    EXPECT_EQ(reports.texts(),
              std::vector<std::string>{"Unhandled exception in client_connected_cb: ValueError: no"});
}

TEST_P(Streams, a_dropped_writer_is_closed_with_a_warning) {
    support::LogRecorder log;
    run([]() -> Coro<> {
        coil::Event ended;
        auto wait_for_end = [&](StreamReader reader, StreamWriter writer) -> Coro<> {
            co_await reader.read();
            ended.set();
            co_await hang_up(writer);
        };
        Server server = co_await start_server(wait_for_end, "127.0.0.1", 0);
        {
            auto connection = co_await open_connection("127.0.0.1", port_of(server));
        }
        co_await ended.wait();
        server.close();
        co_await server.wait_closed();
    }());
    EXPECT_EQ(log.count("unclosed StreamWriter"), 1u) << log.str();
}

TEST_P(Streams, a_loop_that_ends_with_open_connections_leaves_nothing_behind) {
    std::size_t fds = support::open_fds();
    long alive = support::Alive::count();
    support::LogRecorder log;
    for (int round = 0; round < 20; ++round) {
        run([]() -> Coro<> {
            auto stay = [](StreamReader reader, StreamWriter) -> Coro<> {
                support::Alive here;
                co_await reader.read();
            };
            Server server = co_await start_server(stay, "127.0.0.1", 0);
            auto first = co_await open_connection("127.0.0.1", port_of(server));
            auto second = co_await open_connection("127.0.0.1", port_of(server));
            auto reading = create_task(second.reader.read());
            co_await coil::sleep(1ms);
        }());
    }
    // The backend's own descriptors belong to the fixture's loop; it was there before.
    EXPECT_EQ(support::open_fds(), fds);
    EXPECT_EQ(support::Alive::count(), alive);
}

TEST_P(Streams, a_peer_in_another_thread_sees_the_end_of_every_connection) {
    // It takes the data while the connection is closed: the kernel has news of a descriptor that goes.
    std::size_t fds = support::open_fds();
    for (int round = 0; round < 500; ++round) {
        auto [ours, theirs] = Socket::pair();
        ::fcntl(theirs.fileno(), F_SETFL, 0);
        timeval limit{20, 0};
        ::setsockopt(theirs.fileno(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        bool ended = false;
        run([](Socket socket, int peer, bool& seen) -> Coro<> {
            EventLoop& loop = get_running_loop();
            coil::Event done;
            std::thread reading([&] {
                char buffer[100];
                ssize_t size = 0;
                while ((size = ::recv(peer, buffer, sizeof buffer, 0)) > 0) continue;
                seen = size == 0;
                loop.call_soon_threadsafe([&] { done.set(); });
            });
            auto [reader, writer] = co_await open_connection(std::move(socket));
            co_await coil::sleep(0s);
            writer.write("the last words");
            co_await hang_up(writer);
            co_await done.wait();
            reading.join();
        }(std::move(ours), theirs.fileno(), ended));
        ASSERT_TRUE(ended) << "round " << round;
    }
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(Streams, a_cancelled_wait_closed_ends_no_other) {
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "127.0.0.1", 0);
        auto [reader, writer] = co_await open_connection("127.0.0.1", port_of(server));
        auto first = create_task(writer.wait_closed());
        auto second = create_task(writer.wait_closed());
        co_await support::turns(2);
        first.cancel();
        co_await try_await(first);
        EXPECT_TRUE(first.cancelled());
        EXPECT_FALSE(second.done());
        writer.close();
        co_await second;
        co_await writer.wait_closed();
    }());
}

TEST_P(Streams, thousands_of_cancelled_wait_closed_end_no_other) {
    run([]() -> Coro<> {
        for (int connection = 0; connection < 20; ++connection) {
            auto [a, b] = Socket::pair();
            auto [reader, writer] = co_await open_connection(std::move(a));
            std::vector<Task<>> patient;
            for (int round = 0; round < 200; ++round) {
                if (round % 50 == 0) patient.push_back(create_task(writer.wait_closed()));
                auto hasty = create_task(writer.wait_closed());
                co_await support::turns(round % 3);
                hasty.cancel();
                co_await try_await(hasty);
                EXPECT_TRUE(hasty.cancelled());
            }
            for (auto& task : patient) EXPECT_FALSE(task.done());
            // One that is cancelled while the end is on its way: it may end either way, the others may not.
            auto last = create_task(writer.wait_closed());
            co_await coil::sleep(0s);
            if (connection % 2) last.cancel();
            writer.close();
            co_await support::turns(connection % 5);
            last.cancel();
            co_await try_await(last);
            for (auto& task : patient) co_await task;
            co_await writer.wait_closed();
        }
    }());
}

TEST_P(Streams, cancelling_any_operation_at_any_time_leaves_a_usable_connection) {
    std::size_t fds = support::open_fds();
    run([]() -> Coro<> {
        Server server = co_await start_server(echo, "127.0.0.1", 0);
        int port = port_of(server);
        for (int round = 0; round < 300; ++round) {
            // The connect itself, cancelled after some turns.
            auto connecting = create_task(open_connection("127.0.0.1", port));
            co_await support::turns(round % 6);
            bool cut = round % 2 == 0 && connecting.cancel();
            auto outcome = co_await try_await(connecting);
            if (!outcome) {
                EXPECT_TRUE(cut && outcome.cancelled());
                continue;
            }
            auto [reader, writer] = std::move(outcome).value();
            // A read, cancelled around the arrival of its data: no byte is lost.
            std::string message = "message " + std::to_string(round) + "\n";
            auto reading = create_task(reader.readline());
            writer.write(message);
            co_await support::turns(round % 5);
            std::string got;
            if (reading.cancel()) {
                auto read = co_await try_await(reading);
                if (read) got = read.value();
            } else {
                got = co_await reading;
            }
            if (got.empty()) got = co_await reader.readline();
            EXPECT_EQ(got, message);
            // A drain and a wait for the end.
            auto draining = create_task(writer.drain());
            draining.cancel();
            co_await try_await(draining);
            writer.close();
            auto waiting = create_task(writer.wait_closed());
            co_await support::turns(round % 3);
            waiting.cancel();
            co_await try_await(waiting);
        }
        server.close();
        co_await server.wait_closed();
    }());
    EXPECT_EQ(support::open_fds(), fds);
}

}  // namespace
