// What debug mode tells the log of connections, names and processes.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"
#include "support/streams.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::contains;
using support::hang_up;
using support::LogRecorder;

namespace {

class DebugLog : public support::OnBackend {
  protected:
    /// What the program logs on a level, a line each.
    std::string logged(LogLevel level, Coro<> program, bool debug = true) {
        LogRecorder log;
        coil::run(std::move(program), {.debug = debug, .loop_factory = factory()});
        std::string text;
        for (const auto& line : log.lines()) {
            if (line.level == level) text += line.text + "\n";
        }
        return text;
    }
};
ON_EVERY_BACKEND(DebugLog);

Coro<> greet(StreamReader reader, StreamWriter writer) {
    co_await reader.read();
    co_await hang_up(writer);
}

Coro<> connects(int& port) {
    Server server = co_await start_server(greet, "127.0.0.1", 0);
    port = server.sockets()[0].getsockname().port;
    auto [reader, writer] = co_await open_connection("127.0.0.1", port);
    writer.transport()->pause_reading();
    writer.transport()->resume_reading();
    writer.write_eof();
    EXPECT_EQ(co_await reader.read(), "");
    co_await hang_up(writer);
    server.close();
    co_await server.wait_closed();
}

}  // namespace

TEST_P(DebugLog, of_a_server_and_its_connections) {
    int port = 0;
    std::string told = logged(LogLevel::INFO, connects(port));
    EXPECT_EQ(told, fmt::format("<Server serving on ('127.0.0.1', {})> is serving\n", port));

    told = logged(LogLevel::DEBUG_, connects(port));
    std::string to = fmt::format("<Transport open to ('127.0.0.1', {})>", port);
    EXPECT_TRUE(contains(told, "connected: " + to + "\n")) << told;
    std::string accepts =
        fmt::format("<Server serving on ('127.0.0.1', {})> got a new connection: <Transport open to ", port);
    EXPECT_TRUE(contains(told, accepts)) << told;
    EXPECT_TRUE(contains(told, to + " pauses reading\n" + to + " resumes reading\n")) << told;
    EXPECT_TRUE(contains(told, "> received EOF\n")) << told;
    EXPECT_TRUE(contains(told, "\nClose <EventLoop ")) << told;

    EXPECT_EQ(logged(LogLevel::DEBUG_, connects(port), false), "");
    EXPECT_EQ(logged(LogLevel::INFO, connects(port), false), "");
}

TEST_P(DebugLog, of_slow_names) {
    auto look_up = []() -> Coro<> {
        co_await get_running_loop().getaddrinfo("localhost", 80);
        get_running_loop().slow_callback_duration = 0ms;
        co_await get_running_loop().getaddrinfo("localhost", 81);
    };
    std::string told = logged(LogLevel::DEBUG_, look_up());
    EXPECT_TRUE(contains(told, "Get address info localhost:80, family=0, ")) << told;
    EXPECT_TRUE(contains(told, "Getting address info localhost:80, ")) << told;
    EXPECT_FALSE(contains(told, "Getting address info localhost:81, ")) << told;
    told = logged(LogLevel::INFO, look_up());
    EXPECT_TRUE(contains(told, "Getting address info localhost:81, ")) << told;
    EXPECT_TRUE(contains(told, "ms: ")) << told;
    EXPECT_TRUE(contains(told, "127.0.0.1")) << told;
}

TEST_P(DebugLog, of_processes_pipes_and_datagrams) {
    auto program = []() -> Coro<> {
        std::vector<std::string> arguments{"-c", "exit 3"};
        Process child = co_await create_subprocess_exec("sh", arguments);
        co_await child.wait();
        int ends[2];
        EXPECT_EQ(::pipe(ends), 0);
        auto made = [] { return std::make_shared<Protocol>(); };
        auto pipe = co_await get_running_loop().connect_read_pipe(made, ends[0]);
        pipe.transport->close();
        ::close(ends[1]);
        auto talks = [] { return std::make_shared<DatagramProtocol>(); };
        DatagramOptions options;
        options.local_addr = {"127.0.0.1", 0};
        auto endpoint = co_await get_running_loop().create_datagram_endpoint(talks, options);
        endpoint.transport->close();
        co_await sleep(0s);
    };
    std::string told = logged(LogLevel::INFO, program());
    EXPECT_TRUE(contains(told, "execute 'sh' '-c' 'exit 3': process ")) << told;
    EXPECT_TRUE(contains(told, " exited with return code 3\n")) << told;
    EXPECT_TRUE(contains(told, "Datagram endpoint created: <Transport open")) << told;
    told = logged(LogLevel::DEBUG_, program());
    EXPECT_TRUE(contains(told, "connected: <Transport open on pipe ")) << told;
}

TEST_P(DebugLog, of_a_child_that_is_left_behind) {
    auto program = []() -> Coro<> {
        auto made = [] { return std::make_shared<SubprocessProtocol>(); };
        std::vector<std::string> arguments{"1000"};
        auto child = co_await get_running_loop().subprocess_exec(made, "sleep", arguments);
        child.transport->close();
        co_await sleep(1ms);
    };
    std::string told = logged(LogLevel::WARNING, program());
    EXPECT_TRUE(contains(told, "Close running child process: kill process ")) << told;
}

TEST_P(DebugLog, blocking_sockets_are_refused) {
    auto program = [](bool debug) -> Coro<std::string> {
        auto [one, other] = Socket::pair();
        EventLoop& loop = get_running_loop();
        loop.set_debug(debug);
        int flags = ::fcntl(one.fileno(), F_GETFL);
        EXPECT_EQ(::fcntl(one.fileno(), F_SETFL, flags & ~O_NONBLOCK), 0);
        co_await loop.sock_sendall(other, "x");
        auto outcome = co_await try_await(loop.sock_recv(one, 1));
        loop.set_debug(false);
        co_return outcome ? *outcome : describe_exception(outcome.exception());
    };
    RunOptions options{.loop_factory = factory()};
    EXPECT_EQ(coil::run(program(false), options), "x");
    EXPECT_EQ(coil::run(program(true), options), "coil::ValueError: the socket must be non-blocking");
}
