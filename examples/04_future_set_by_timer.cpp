// A Future is the bridge from callbacks to coroutines: a callback sets it, tasks await it.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>

using namespace std::chrono_literals;

// A Future is a handle: every copy refers to the same result.
coil::Coro<> reader(std::string name, coil::Future<std::string> news) {
    fmt::print("{} waits\n", name);
    std::string text = co_await news;
    fmt::print("{} got '{}'\n", name, text);
}

coil::Coro<> newsroom() {
    coil::EventLoop& loop = coil::get_running_loop();
    coil::Future<std::string> news = loop.create_future<std::string>();

    // Named first: GCC 12 miscompiles a lambda that captures by value inside a co_await expression.
    auto publish = [news]() mutable {
        fmt::print("the timer sets the result\n");
        news.set_result("it is done");
    };
    loop.call_later(10ms, publish);

    co_await coil::gather(reader("one", news), reader("two", news));
    fmt::print("done: {}\n", news.done());
}

int main() { coil::run(newsroom()); }
