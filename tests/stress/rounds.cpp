// Thousands of rounds of everything that is created and ended; afterwards the counts are where they were.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::Alive;

namespace {

Coro<int> worker(Semaphore& permits, Queue<int>& queue, int round) {
    Alive here;
    auto permit = co_await permits.scoped();
    co_await coil::sleep(std::chrono::microseconds(round % 3));
    if (round % 7 == 0) throw ValueError("round");
    queue.put_nowait(round);
    co_return round;
}

AsyncGenerator<int> count_up() {
    Alive here;
    for (int i = 0;; ++i) {
        co_yield i;
        co_await coil::sleep(0s);
    }
}

Coro<> one_round(int round) {
    Semaphore permits(2);
    Queue<int> queue;
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 5; ++i) tasks.push_back(create_task(worker(permits, queue, round + i)));
    co_await support::turns(round % 5);
    if (round % 3 == 0) tasks[1].cancel();
    auto results = co_await gather(return_exceptions, tasks);
    EXPECT_EQ(results.size(), tasks.size());

    auto generator = count_up();
    co_await generator.next();
    if (round % 2 == 0) co_await generator.aclose();  // otherwise it is dropped, and closed by the loop

    auto body = [&](TaskGroup& group) -> Coro<> {
        group.create_task(worker(permits, queue, 1));
        auto dropped = group.create_task(worker(permits, queue, 2));
        dropped.cancel();
        co_return;
    };
    co_await async_with(TaskGroup(), body);
    auto late = co_await try_await(wait_for(coil::sleep(1h), 100us));
    EXPECT_FALSE(late.has_value());
}

class Rounds : public support::OnBackend {};
ON_EVERY_BACKEND(Rounds);

TEST_P(Rounds, tasks_generators_groups_and_time_outs_leave_nothing_behind) {
    long alive = Alive::count();
    std::size_t fds = support::open_fds();
    run(
        []() -> Coro<> {
            for (int round = 0; round < 2000; ++round) co_await one_round(round);
            co_await support::turns(10);  // the dropped generators' ends
            EXPECT_EQ(all_tasks().size(), 1u);
            EXPECT_EQ(Alive::count(), 0);
        }(),
        {.loop_factory = factory()});
    EXPECT_EQ(Alive::count(), alive);
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(Rounds, a_thousand_loops_leave_nothing_behind) {
    long alive = Alive::count();
    std::size_t fds = support::open_fds();
    for (int round = 0; round < 1000; ++round) run(one_round(round), {.loop_factory = factory()});
    EXPECT_EQ(Alive::count(), alive);
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(Rounds, connections_leave_nothing_behind) {
    std::size_t fds = support::open_fds();
    run(
        []() -> Coro<> {
            auto echo_line = [](StreamReader reader, StreamWriter writer) -> Coro<> {
                writer.write(co_await reader.readline());
                writer.close();
                co_await writer.wait_closed();
            };
            Server server = co_await start_server(echo_line, "127.0.0.1", 0);
            int port = server.sockets().at(0).getsockname().port;
            for (int round = 0; round < 2000; ++round) {
                auto [reader, writer] = co_await open_connection("127.0.0.1", port);
                writer.write("line\n");
                EXPECT_EQ(co_await reader.read(), "line\n");
                writer.close();
                co_await writer.wait_closed();
            }
            server.close();
            co_await server.wait_closed();
        }(),
        {.loop_factory = factory()});
    EXPECT_EQ(support::open_fds(), fds);
}

}  // namespace
