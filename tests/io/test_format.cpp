#include "coil/format.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <source_location>
#include <sstream>
#include <string>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/run.hpp"
#include "support/text.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::contains;

namespace {

std::string shown(const auto& object) {
    std::ostringstream out;
    out << object;
    std::string formatted = fmt::format("{}", object);
    EXPECT_EQ(out.str(), formatted);
    return formatted;
}

template <class T>
Coro<T> give(T value) {
    co_return value;
}
Coro<> wait_for(Event& event) { co_await event.wait(); }
Coro<> fail() {
    co_await sleep(0ms);
    throw ValueError("no");
}

}  // namespace

TEST(Descriptions, tasks_and_futures) {
    support::run_virtual([]() -> Coro<> {
        Event event;
        const auto line = std::source_location::current().line() + 1;
        Task<> task = create_task(wait_for(event), {.name = "fetch"});
        std::string made = fmt::format(", created at {}:{}>", __FILE__, line);
        EXPECT_EQ(shown(task), "<Task 'fetch' ready" + made);
        co_await sleep(0ms);
        EXPECT_EQ(shown(task), "<Task 'fetch' waiting for Event.wait" + made);
        EXPECT_EQ(shown(Future<>(task)), shown(task));
        event.set();
        EXPECT_EQ(fmt::format("{:>200}", task).size(), 200u);
        co_await task;
        EXPECT_EQ(shown(task), "<Task 'fetch' finished" + made);
        EXPECT_TRUE(shown(current_task()).starts_with("<Task 'Task-")) << shown(current_task());
        EXPECT_TRUE(contains(shown(current_task()), "' running")) << shown(current_task());

        Task<> failing = create_task(fail(), {.name = "failing"});
        std::vector<Task<>> failed{failing};
        co_await coil::wait(failed);
        EXPECT_TRUE(
            shown(failing).starts_with("<Task 'failing' failed with coil::ValueError: no, created at "))
            << shown(failing);
        EXPECT_TRUE(failing.exception());
        Task<> stopped = create_task(sleep(1h), {.name = "stopped"});
        stopped.cancel();
        std::vector<Task<>> cancelled{stopped};
        co_await coil::wait(cancelled);
        EXPECT_TRUE(shown(stopped).starts_with("<Task 'stopped' cancelled")) << shown(stopped);

        Future<int> future = get_running_loop().create_future<int>();
        EXPECT_EQ(shown(future), "<Future pending>");
        future.set_result(1);
        EXPECT_EQ(shown(future), "<Future finished>");
        EXPECT_EQ(shown(Task<int>()), "<Task empty>");
        EXPECT_EQ(shown(Future<int>()), "<Future empty>");

        auto coro = give(1);
        EXPECT_TRUE(shown(coro).starts_with("<Coro ")) << shown(coro);
        EXPECT_TRUE(contains(shown(coro), "give")) << shown(coro);
        co_await std::move(coro);
        EXPECT_EQ(shown(coro), "<Coro awaited>");
    }());
}

TEST(Descriptions, waits_say_what_they_wait_for) {
    support::run_virtual([]() -> Coro<> {
        auto take = [](Lock& lock) -> Coro<> { co_await lock.acquire(); };
        auto get = [](Queue<int>& queue) -> Coro<> { co_await queue.get(); };
        auto put = [](Queue<int>& queue) -> Coro<> { co_await queue.put(2); };
        Lock lock;
        Queue<int> empty;
        Queue<int> full(1);
        full.put_nowait(1);
        Task<> holder = create_task(take(lock), {.name = "holder"});
        Task<> taker = create_task(take(lock), {.name = "taker"});
        Task<> getter = create_task(get(empty), {.name = "getter"});
        Task<> putter = create_task(put(full), {.name = "putter"});
        Task<> sleeper = create_task(sleep(10s), {.name = "sleeper"});
        co_await sleep(4s);
        EXPECT_TRUE(contains(shown(taker), "waiting for Lock.acquire, held by a task that has ended,"))
            << shown(taker);
        EXPECT_TRUE(contains(shown(getter), "waiting for Queue.get with 0 items,")) << shown(getter);
        EXPECT_TRUE(contains(shown(putter), "waiting for Queue.put with 1 of 1 items,")) << shown(putter);
        EXPECT_TRUE(contains(shown(sleeper), "waiting for sleep(10s), due in 6.000s,")) << shown(sleeper);
        EXPECT_EQ(shown(lock), "<Lock locked, 1 waiting>");
        EXPECT_EQ(shown(empty), "<Queue 0 items, 1 getting>");
        EXPECT_EQ(shown(full), "<Queue 1 of 1 items, 1 putting>");
        lock.release();
        co_await taker;
        getter.cancel();
        putter.cancel();
        sleeper.cancel();
        std::vector<Task<>> all{getter, putter, sleeper, holder};
        co_await coil::wait(all);
    }());
}

TEST(Descriptions, primitives) {
    support::run_virtual([]() -> Coro<> {
        Lock lock;
        EXPECT_EQ(shown(lock), "<Lock unlocked>");
        Event event;
        EXPECT_EQ(shown(event), "<Event not set>");
        event.set();
        EXPECT_EQ(shown(event), "<Event set>");
        Condition condition;
        co_await condition.acquire();
        EXPECT_EQ(shown(condition), "<Condition locked>");
        condition.release();
        Semaphore semaphore(3);
        EXPECT_EQ(shown(semaphore), "<Semaphore 3>");
        BoundedSemaphore bounded(2);
        co_await bounded.acquire();
        EXPECT_EQ(shown(bounded), "<BoundedSemaphore 1 of 2>");
        Barrier barrier(5);
        EXPECT_EQ(shown(barrier), "<Barrier 0 of 5>");
        co_await barrier.abort();
        EXPECT_EQ(shown(barrier), "<Barrier 0 of 5, broken>");
        PriorityQueue<int> first_things(4);
        first_things.shutdown();
        EXPECT_EQ(shown(first_things), "<PriorityQueue 0 of 4 items, shut down>");
        LifoQueue<int> pile;
        EXPECT_EQ(shown(pile), "<LifoQueue 0 items>");
        TaskGroup group;
        EXPECT_EQ(shown(group), "<TaskGroup 0 unfinished tasks, not entered>");
        auto body = [&]() -> Coro<> {
            group.create_task(sleep(1s));
            EXPECT_EQ(shown(group), "<TaskGroup 1 unfinished tasks>");
            co_return;
        };
        co_await async_with(group, body);
        Timeout limit = timeout(1s);
        EXPECT_TRUE(shown(limit).starts_with("<Timeout created at ")) << shown(limit);
        EXPECT_EQ(shown(timeout(std::nullopt)), "<Timeout created>");
    }());
}

TEST(Descriptions, loops_and_handles) {
    auto loop = new_event_loop();
    EXPECT_TRUE(shown(*loop).ends_with(", not running>")) << shown(*loop);
    Handle handle = loop->call_soon([] {});
    EXPECT_TRUE(shown(handle).starts_with("<Handle Descriptions_loops_and_handles_Test::")) << shown(handle);
    handle.cancel();
    EXPECT_TRUE(shown(handle).ends_with(" cancelled>")) << shown(handle);
    EXPECT_EQ(shown(Handle()), "<Handle empty>");
    TimerHandle timer = loop->call_at(TimePoint(1500ms), [] {});
    EXPECT_TRUE(shown(timer).starts_with("<TimerHandle at 1.500s Descriptions_")) << shown(timer);
    timer.cancel();
    EXPECT_TRUE(shown(timer).ends_with(" cancelled>")) << shown(timer);
    loop->close();
    EXPECT_TRUE(shown(*loop).ends_with(", closed>")) << shown(*loop);
    Runner runner;
    EXPECT_EQ(shown(runner), "<Runner without a loop yet>");
    runner.close();
    EXPECT_EQ(shown(runner), "<Runner closed>");
}

namespace {
class DescriptionsOfConnections : public support::OnBackend {};
ON_EVERY_BACKEND(DescriptionsOfConnections);
}  // namespace

TEST_P(DescriptionsOfConnections, streams_servers_sockets_and_processes) {
    auto main = []() -> Coro<> {
        auto talk = [](StreamReader reader, StreamWriter writer) -> Coro<> {
            co_await reader.read();
            writer.close();
        };
        Server server = co_await start_server(talk, "127.0.0.1", 0);
        SocketAddress address = server.sockets()[0].getsockname();
        std::string place = fmt::format("('127.0.0.1', {})", address.port);
        EXPECT_EQ(shown(address), place);
        EXPECT_EQ(shown(server), "<Server serving on " + place + ">");
        auto [reader, writer] = co_await open_connection("127.0.0.1", address.port);
        EXPECT_EQ(shown(reader), "<StreamReader 0 bytes>");
        EXPECT_EQ(shown(*writer.transport()), "<Transport open to " + place + ">");
        EXPECT_EQ(shown(writer), "<StreamWriter 0 bytes to be written, <Transport open to " + place + ">>");
        auto read = [](StreamReader from) -> Coro<> { co_await from.read(1); };
        Task<> waiting = create_task(read(reader), {.name = "waiting"});
        co_await sleep(0ms);
        EXPECT_TRUE(contains(shown(waiting), "waiting for StreamReader.read from " + place))
            << shown(waiting);
        writer.write_eof();
        co_await waiting;
        EXPECT_EQ(shown(reader), "<StreamReader 0 bytes, at the end>");
        writer.close();
        co_await writer.wait_closed();
        server.close();
        EXPECT_EQ(shown(server), "<Server closed>");
        co_await server.wait_closed();
        EXPECT_EQ(shown(Socket()), "<Socket closed>");
        auto [one, other] = Socket::pair();
        EXPECT_EQ(shown(one), fmt::format("<Socket descriptor {}>", one.fileno()));
        Process child = co_await create_subprocess_exec("true");
        EXPECT_EQ(shown(child), fmt::format("<Process {} running>", child.pid()));
        co_await child.wait();
        EXPECT_EQ(shown(child), fmt::format("<Process {} ended with 0>", child.pid()));
    };
    run(main(), {.loop_factory = factory()});
}

TEST(Descriptions, of_what_holds_state_between_tasks) {
    support::run_virtual([]() -> Coro<> {
        auto numbers = []() -> AsyncGenerator<int> { co_yield 1; };
        auto generator = numbers();
        EXPECT_TRUE(shown(generator).starts_with("<AsyncGenerator ")) << shown(generator);
        EXPECT_TRUE(shown(generator).ends_with(", not begun>")) << shown(generator);
        co_await generator.next();
        EXPECT_TRUE(shown(generator).ends_with(", suspended>")) << shown(generator);
        co_await generator.next();
        EXPECT_TRUE(shown(generator).ends_with(", finished>")) << shown(generator);
        auto moved = std::move(generator);
        EXPECT_EQ(shown(generator), "<AsyncGenerator empty>");

        EXPECT_EQ(shown(co_await try_await(give(1))), "<Outcome finished>");
        EXPECT_EQ(shown(co_await try_await(fail())), "<Outcome failed with coil::ValueError: no>");
        Task<> stopped = create_task(sleep(1h));
        stopped.cancel();
        EXPECT_EQ(shown(co_await try_await(stopped)), "<Outcome cancelled>");

        ContextVar<int> variable("request");
        Token<int> token = variable.set(1);
        EXPECT_EQ(shown(variable), "<ContextVar 'request'>");
        EXPECT_EQ(shown(token), "<Token of 'request'>");
        EXPECT_EQ(shown(copy_context()), "<Context of 1 variable>");
        EXPECT_EQ(shown(Context()), "<Context of 0 variables>");
        variable.reset(token);
        EXPECT_EQ(shown(token), "<Token of 'request', used>");
        auto stack = stopped.get_stack();
        EXPECT_TRUE(stack.empty());
        stack = current_task().get_stack();
        EXPECT_FALSE(stack.empty());
        if (stack.empty()) co_return;
        EXPECT_EQ(shown(stack[0]),
                  fmt::format("File '{}', line {}, in {}", stack[0].file, stack[0].line, stack[0].function));
    }());
}

TEST(Descriptions, executors_and_their_futures) {
    ThreadPoolExecutor pool(2);
    EXPECT_EQ(shown(pool), "<ThreadPoolExecutor 0 of 2 threads, 0 idle, 0 calls queued>");
    std::promise<void> begun, go;
    auto busy = pool.submit([&] {
        begun.set_value();
        go.get_future().wait();
    });
    begun.get_future().wait();
    EXPECT_EQ(shown(busy), "<concurrent.Future running>");
    EXPECT_TRUE(shown(pool).starts_with("<ThreadPoolExecutor 1 of 2 threads, 0 idle, ")) << shown(pool);
    go.set_value();
    busy.result();
    EXPECT_EQ(shown(busy), "<concurrent.Future finished>");
    auto failed = pool.submit([] { throw ValueError("no"); });
    EXPECT_TRUE(failed.exception());
    EXPECT_EQ(shown(failed), "<concurrent.Future failed with coil::ValueError: no>");
    pool.shutdown();
    EXPECT_EQ(shown(pool), "<ThreadPoolExecutor 0 of 2 threads, 0 idle, 0 calls queued, shut down>");
    concurrent::Future<int> own;
    EXPECT_EQ(shown(own), "<concurrent.Future pending>");
    own.cancel();
    EXPECT_EQ(shown(own), "<concurrent.Future cancelled>");
}

TEST_P(DescriptionsOfConnections, files_and_tls) {
    auto main = []() -> Coro<> {
        File file = co_await open_file("/dev/null", "r+");
        EXPECT_EQ(shown(file), "<File '/dev/null' r+>");
        co_await file.close();
        EXPECT_EQ(shown(file), "<File '/dev/null' closed>");
        EXPECT_EQ(shown(File()), "<File closed>");
        SslContext context = create_default_context();
        EXPECT_EQ(shown(context), "<SslContext client, CERT_REQUIRED, host names checked>");
        EXPECT_EQ(shown(SslContext(SslProtocol::TLS_SERVER)), "<SslContext server, CERT_NONE>");
    };
    run(main(), {.loop_factory = factory()});
}
