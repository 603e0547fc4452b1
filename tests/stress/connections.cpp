// Ten thousand connections at once, which echo for a minute: nothing is lost, and what an idle one costs is reported.
// COIL_STRESS_SECONDS: another time; COIL_STRESS_CONNECTIONS: another number.
// LABEL: long

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/backends.hpp"

using namespace coil;
using namespace std::chrono_literals;

namespace {

int setting(const char* name, int standard) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : standard;
}

std::size_t resident_bytes(pid_t process) {
    std::size_t pages = 0;
    std::ifstream("/proc/" + std::to_string(process) + "/statm") >> pages >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

bool allow_descriptors(rlim_t count) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= count) return true;
    limit.rlim_cur = count;
    limit.rlim_max = std::max(limit.rlim_max, count);
    return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

Coro<> echo(StreamReader reader, StreamWriter writer) {
    while (true) {
        std::string data = co_await reader.read(4096);
        if (data.empty()) break;
        writer.write(data);
        co_await writer.drain();
    }
    writer.close();
    co_await writer.wait_closed();
}

/// Sends messages that no other connection and no other round sends, and checks every byte that comes back.
Coro<long> converse(int number, Streams streams, TimePoint end) {
    auto& [reader, writer] = streams;
    long messages = 0;
    while (get_running_loop().time() < end) {
        std::string message = std::to_string(number) + ":" + std::to_string(messages) + "\n";
        message.insert(0, static_cast<std::size_t>((number + messages) % 200), 'x');
        writer.write(message);
        std::string answer = co_await reader.readexactly(message.size());
        EXPECT_EQ(answer, message);
        ++messages;
    }
    writer.close();
    co_await writer.wait_closed();
    co_return messages;
}

/// The server is a process of its own: the limit on descriptors is one for each. It writes its port, and ends when the other
/// end of the pipe is closed.
Coro<> serve(int channel) {
    Server server = co_await start_server(echo, "127.0.0.1", 0, {.backlog = 1024});
    int port = server.sockets().front().getsockname().port;
    if (::write(channel, &port, sizeof port) != sizeof port)
        throw RuntimeError("nobody wants to know the port");
    Event ended;
    get_running_loop().add_reader(channel, [&] { ended.set(); });
    co_await ended.wait();
    get_running_loop().remove_reader(channel);
    server.close();
    co_await server.wait_closed();
}

class Connections : public support::OnBackend {};
ON_EVERY_BACKEND(Connections);

TEST_P(Connections, ten_thousand_echo_and_nothing_is_lost) {
    const int count = setting("COIL_STRESS_CONNECTIONS", 10'000);
    const int seconds = setting("COIL_STRESS_SECONDS", 60);
    ASSERT_TRUE(allow_descriptors(static_cast<rlim_t>(count + 100))) << "ulimit -n is too low";
    auto [ours, its] = Socket::pair();
    ::malloc_trim(0);  // so that the server does not live on what the test before has left
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        int status = 0;
        try {
            ours.close();
            coil::run(serve(its.fileno()), {.loop_factory = factory()});
        } catch (const std::exception& e) {
            std::cerr << "server: " << e.what() << "\n";
            status = 1;
        }
        ::_exit(status);
    }
    its.close();
    auto main = [&]() -> Coro<long> {
        int port = 0;
        std::size_t size =
            co_await get_running_loop().sock_recv_into(ours, std::as_writable_bytes(std::span(&port, 1)));
        EXPECT_EQ(size, sizeof port);
        std::size_t before = resident_bytes(child);
        std::vector<Streams> connections;
        while (static_cast<int>(connections.size()) < count)
            connections.push_back(co_await open_connection("127.0.0.1", port));
        std::cout << "server, bytes per idle connection: "
                  << (resident_bytes(child) - before) / static_cast<std::size_t>(count) << std::endl;
        TimePoint end = get_running_loop().time() + std::chrono::seconds(seconds);
        std::vector<Task<long>> tasks;
        for (int i = 0; i < count; ++i)
            tasks.push_back(
                create_task(converse(i, std::move(connections[static_cast<std::size_t>(i)]), end)));
        connections.clear();
        long messages = 0;
        for (Task<long>& task : tasks) {
            long of_one = co_await task;
            EXPECT_GT(of_one, 0);
            messages += of_one;
        }
        co_return messages;
    };
    long messages = coil::run(main(), {.loop_factory = factory()});
    std::cout << messages << " messages on " << count << " connections in " << seconds << " s\n";
    ours.close();
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
