#include "debug/stuck/objects.hpp"

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "coil/coil.hpp"

using namespace coil;
using namespace std::chrono_literals;

static Coro<int> answer_later() { co_return co_await sleep(1h, 42); }

struct Objects {
    Task<int> no_task;
    Task<int> finished_task;
    Task<> failed_task;
    Task<> cancelled_task;
    Task<> waiting_task;
    Task<> ready_task;
    Task<> running_task;
    Future<> view_of_task;
    Future<int> no_future;
    Future<std::string> finished_future;
    Future<> pending_future;
    Future<int> failed_future;
    int seven = 7;
    Future<int&> future_of_reference;
    Coro<int> coro = answer_later();
    Coro<int> moved_coro = answer_later();

    Lock free_lock;
    Lock taken_lock;
    Event set_event;
    Event awaited_event;
    Condition condition;
    Semaphore semaphore{2};
    BoundedSemaphore bounded_semaphore{1};
    Barrier barrier{3};
    Barrier broken_barrier{2};
    Queue<int> queue{10};
    Queue<std::string> endless_queue;
    PriorityQueue<int> priority_queue{1};
    LifoQueue<int> lifo_queue;

    TaskGroup group;
    TaskGroup entered_group;
    TaskGroup moved_group;
    TaskGroup target_of_move{std::move(moved_group)};
    Timeout no_timeout{std::nullopt};
    Timeout* active_timeout = nullptr;

    Outcome<int> value{std::in_place, 42};
    Outcome<std::string> text{std::in_place, "good"};
    Outcome<> nothing{std::in_place};
    Outcome<int> error{std::make_exception_ptr(ValueError("bad"))};
    Outcome<> cancellation{std::make_exception_ptr(CancelledError())};

    StreamReader reader;
    StreamReader no_reader{std::shared_ptr<detail::StreamReaderState>()};
    StreamWriter writer{std::shared_ptr<detail::StreamWriterState>()};
    StreamWriter no_writer{std::shared_ptr<detail::StreamWriterState>()};
    SocketAddress address{"127.0.0.1", 80};
    Handle no_handle;
    Handle handle;
    Handle cancelled_handle;
    Handle done_handle;
    TimerHandle timer_handle;
    EventLoop* loop = &get_running_loop();
    ExceptionGroup errors{
        "two errors",
        {std::make_exception_ptr(ValueError("bad")), std::make_exception_ptr(std::string("worse"))}};

    std::byte zeros[256]{};
    std::byte rubbish[256];
    void* pointers[32];
};
Objects* objects;

namespace {

Coro<int> answer() { co_return 42; }
Coro<> fail() {
    co_await sleep(0s);
    throw ValueError("bad");
}
Coro<> doze() { co_await sleep(1h); }
Coro<> take(Lock& lock) { co_await lock.acquire(); }
Coro<> wait_for(Event& event) { co_await event.wait(); }
Coro<> wait_for(Condition& condition) {
    auto held = co_await condition.scoped();
    co_await condition.wait();
}
Coro<> pass(Barrier& barrier) { co_await barrier.wait(); }
Coro<> get(Queue<std::string>& queue) { co_await queue.get(); }
Coro<> serve_nobody(StreamReader, StreamWriter) { co_await sleep(1h); }

Coro<> wait_in_group(TaskGroup& group) {
    auto body = [&]() -> Coro<> {
        group.create_task(doze());
        group.create_task(doze());
        co_await doze();
    };
    co_await async_with(group, body);
}

Coro<> wait_in_time(Timeout*& shown) {
    Timeout limit = timeout(1h);
    shown = &limit;
    co_await async_with(limit, doze);
}

Coro<> make_futures(Objects& o) {
    EventLoop& loop = get_running_loop();
    o.finished_task = create_task(answer(), {.name = "fetch"});
    o.failed_task = create_task(fail(), {.name = "failing"});
    o.cancelled_task = create_task(doze(), {.name = "cancelled\n"});
    o.cancelled_task.cancel();
    o.waiting_task = create_task(doze(), {.name = "patient"});
    o.view_of_task = o.waiting_task;
    o.finished_future = loop.create_future<std::string>();
    o.finished_future.set_result("good");
    o.pending_future = loop.create_future<void>();
    o.failed_future = loop.create_future<int>();
    o.failed_future.set_exception(OSError(2));
    o.future_of_reference = loop.create_future<int&>();
    o.future_of_reference.set_result(o.seven);
    o.handle = loop.call_soon([] {});
    o.cancelled_handle = loop.call_soon([] {});
    o.cancelled_handle.cancel();
    o.done_handle = loop.call_soon([] {});
    o.timer_handle = loop.call_later(1h, [] {});
    co_await try_await(o.cancelled_task);
    co_await try_await(o.failed_task);
    co_await sleep(0s);
    o.handle = loop.call_soon([] {});
    o.ready_task = create_task(doze(), {.name = "prompt"});
}

Coro<> make_streams(Objects& o) {
    o.reader.feed_data("hello");
    o.reader.feed_eof();
    auto server = co_await start_server(serve_nobody, "127.0.0.1", 0);
    auto streams = co_await open_connection("127.0.0.1", server.sockets()[0].getsockname().port);
    o.writer = streams.writer;
}

}  // namespace

Coro<> make_objects(void (*ready)()) {
    Objects o;
    objects = &o;
    for (void*& pointer : o.pointers) pointer = o.pointers;
    std::memset(o.rubbish, 0xA5, sizeof o.rubbish);
    Coro<int> target = std::move(o.moved_coro);
    o.running_task = current_task();

    co_await o.taken_lock.acquire();
    co_await o.bounded_semaphore.acquire();
    co_await o.broken_barrier.abort();
    o.set_event.set();
    for (int i = 0; i < 3; ++i) o.queue.put_nowait(i);
    o.priority_queue.put_nowait(1);
    o.lifo_queue.put_nowait(1);
    o.lifo_queue.shutdown();
    std::vector<Task<>> tasks;
    for (int i = 0; i < 2; ++i) {
        tasks.push_back(create_task(take(o.taken_lock), {.name = "taker"}));
        tasks.push_back(create_task(wait_for(o.awaited_event)));
    }
    tasks.push_back(create_task(wait_for(o.condition)));
    tasks.push_back(create_task(pass(o.barrier)));
    tasks.push_back(create_task(get(o.endless_queue)));
    tasks.push_back(create_task(o.priority_queue.put(2)));
    tasks.push_back(create_task(wait_in_group(o.entered_group)));
    tasks.push_back(create_task(wait_in_time(o.active_timeout)));
    co_await make_streams(o);
    co_await make_futures(o);
    ready();
    for (;;) ::pause();
}
