// A program that is stuck in the way that its argument names, for those who look into it. It says "ready" once it is; "graph" as
// a second argument: and before that the call graphs of its tasks. SIGINT ends it, and SIGUSR1 the busy one.

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "coil/coil.hpp"
#include "debug/stuck/objects.hpp"

using namespace coil;
using namespace std::chrono_literals;

namespace {

bool shows_graphs = false;

void say_ready() {
    if (shows_graphs) {
        for (const Task<>& task : all_tasks()) std::cout << format_call_graph(task) << "\n\n";
    }
    std::cout << "ready" << std::endl;
}

// Some turns later everybody stands where he will stay; who calls this too.
void say_ready_later(int turns = 20) {
    if (turns == 0) return say_ready();
    get_running_loop().call_soon([turns] { say_ready_later(turns - 1); });
}

Coro<> take_both(Lock& first, Lock& second) {
    auto one = co_await first.scoped();
    co_await sleep(0ms);
    auto other = co_await second.scoped();
}

Coro<> locks() {
    Lock a;
    Lock b;
    auto forth = create_task(take_both(a, b), {.name = "a to b"});
    auto back = create_task(take_both(b, a), {.name = "b to a"});
    say_ready_later();
    co_await forth;
}

Coro<> wait_for_work(Condition& condition) {
    co_await condition.acquire();
    co_await condition.wait();
    condition.release();
}

Coro<> lost_wake_up() {
    Condition condition;
    co_await condition.acquire();
    condition.notify();  // nobody waits yet
    condition.release();
    auto worker = create_task(wait_for_work(condition), {.name = "worker"});
    say_ready_later();
    co_await worker;
}

Coro<int> read_answer(Future<int> answer) { co_return co_await answer; }

Coro<> never_set() {
    auto answer = get_running_loop().create_future<int>();
    auto reader = create_task(read_answer(answer), {.name = "reader"});
    say_ready_later();
    co_await reader;
}

volatile std::sig_atomic_t released = 0;

Coro<> spin() {
    get_running_loop().slow_callback_duration = 0ms;  // however soon it is released
    std::signal(SIGUSR1, [](int) { released = 1; });
    co_await sleep(0ms);
    say_ready();
    while (!released) {
    }
}

Coro<> busy() {
    auto spinner = create_task(spin(), {.name = "spinner"});
    co_await spinner;
}

Coro<> serve_nobody(StreamReader, StreamWriter) { co_await sleep(1h); }

Coro<> ask(int port) {
    auto [reader, writer] = co_await open_connection("127.0.0.1", port);
    say_ready_later();
    co_await reader.readexactly(4);
}

Coro<> stalled_peer() {
    auto server = co_await start_server(serve_nobody, "127.0.0.1", 0);
    int port = server.sockets()[0].getsockname().port;
    std::cout << port << std::endl;
    auto client = create_task(ask(port), {.name = "client"});
    co_await client;
}

Coro<> doze() { co_await sleep(1h); }
Coro<> gathers() { co_await gather(doze(), doze()); }
Coro<> in_time(Task<> task) { co_await wait_for(shield(task), 1h); }
Coro<> for_first(std::vector<Task<>> tasks) {
    co_await coil::wait(tasks, {.return_when = ReturnWhen::FIRST_COMPLETED});
}
Coro<> family() {
    Queue<int> full(1);
    full.put_nowait(1);
    TaskGroup group;
    auto body = [&]() -> Coro<> {
        auto gatherer = group.create_task(gathers(), {.name = "gatherer"});
        auto dozer = group.create_task(doze(), {.name = "dozer"});
        group.create_task(in_time(dozer), {.name = "in time"});
        std::vector<Task<>> both{gatherer, dozer};
        group.create_task(for_first(std::move(both)), {.name = "for first"});
        auto put = [](Queue<int>& queue) -> Coro<> { co_await queue.put(2); };
        group.create_task(put(full), {.name = "putter"});
        co_return;
    };
    say_ready_later();
    co_await async_with(group, body);
}

Coro<> many() {
    TaskGroup group;
    auto body = [&]() -> Coro<> {
        for (int i = 0; i < 10'000; ++i) group.create_task(doze(), {.name = "sleeper " + std::to_string(i)});
        co_return;
    };
    say_ready_later();
    co_await async_with(group, body);
}

Coro<int> pass_on(Queue<int>& queue, int depth) {
    if (depth > 0) co_return co_await pass_on(queue, depth - 1);
    co_return co_await queue.get();
}

Coro<> take_some(Queue<int>& queue) {
    for (int i = 0; i < 10; ++i) co_await pass_on(queue, i);
}

// A child that has all of this process's memory, with two loops, and only the thread that runs one of them.
Coro<> forked() {
    std::binary_semaphore runs(0);
    auto other = [&runs]() -> Coro<> {
        runs.release();
        co_await sleep(1h);
    };
    std::thread([&] { run(other()); }).detach();
    runs.acquire();
    int is_there[2];
    if (::pipe(is_there) != 0) std::abort();
    pid_t child = ::fork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::write(is_there[1], "x", 1) != 1) std::abort();
        for (;;) ::pause();
    }
    char byte = 0;
    if (::read(is_there[0], &byte, 1) != 1) std::abort();
    std::cout << child << std::endl;
    say_ready_later();
    co_await sleep(1h);
}

Coro<> some_objects() { co_await make_objects(say_ready); }

// Tasks that come and go as fast as they can.
Coro<> churn() {
    say_ready();
    Queue<int> queue(3);
    for (;;) {
        auto first = create_task(take_some(queue), {.name = "churning with a name of its own"});
        auto second = create_task(take_some(queue), {.name = "churning"});
        for (int i = 0; i < 20; ++i) co_await queue.put(i);
        co_await gather(first, second);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::map<std::string, std::function<Coro<>()>> kinds = {
        {"locks", locks},
        {"lost wake-up", lost_wake_up},
        {"never set", never_set},
        {"busy", busy},
        {"stalled peer", stalled_peer},
        {"family", family},
        {"many", many},
        {"churn", churn},
        {"forked", forked},
        {"objects", some_objects},
    };
    auto kind = argc >= 2 ? kinds.find(argv[1]) : kinds.end();
    if (kind == kinds.end()) return 2;
    shows_graphs = argc == 3 && std::string_view(argv[2]) == "graph";
    try {
        run(kind->second());
    } catch (const KeyboardInterrupt&) {
        return 130;
    }
}
