// Ten thousand connections at once, which echo for a minute: nothing is lost, and what an idle one costs is reported.
// COIL_STRESS_SECONDS: another time; COIL_STRESS_CONNECTIONS: another number.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
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

std::size_t resident_bytes() {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Each connection has two descriptors here.
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

class Connections : public support::OnBackend {};
ON_EVERY_BACKEND(Connections);

TEST_P(Connections, ten_thousand_echo_and_nothing_is_lost) {
    const int count = setting("COIL_STRESS_CONNECTIONS", 10'000);
    const int seconds = setting("COIL_STRESS_SECONDS", 60);
    ASSERT_TRUE(allow_descriptors(static_cast<rlim_t>(2 * count + 100))) << "ulimit -n is too low";
    auto main = [&]() -> Coro<long> {
        Server server = co_await start_server(echo, "127.0.0.1", 0, {.backlog = 1024});
        int port = server.sockets().front().getsockname().port;
        std::size_t before = resident_bytes();
        std::vector<Streams> connections;
        while (static_cast<int>(connections.size()) < count)
            connections.push_back(co_await open_connection("127.0.0.1", port));
        std::cout << "bytes per connection, both ends: "
                  << (resident_bytes() - before) / static_cast<std::size_t>(count) << "\n";
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
        server.close();
        co_await server.wait_closed();
        co_return messages;
    };
    long messages = coil::run(main(), {.loop_factory = factory()});
    std::cout << messages << " messages on " << count << " connections in " << seconds << " s\n";
}

}  // namespace
