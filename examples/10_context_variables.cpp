// Context variables: a value that follows the flow of control into every task and callback it starts, and never out.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>
#include <string_view>

using namespace std::chrono_literals;

coil::ContextVar<std::string> request_id("request_id", "-");

void note(std::string_view text) { fmt::print("[{}] {}\n", request_id.get(), text); }

coil::Coro<> query() {
    co_await coil::sleep(10ms);
    note("query");
}

coil::Coro<> handle(std::string id) {
    request_id.set(id);
    note("begin");
    co_await query();                     // the same task, the same context
    co_await coil::create_task(query());  // another task, with a copy of it
    note("end");
}

coil::Coro<> serve() {
    co_await coil::gather(handle("a1"), handle("b2"));
    note("what the handlers have set stayed with them");

    auto token = request_id.set("maintenance");
    coil::get_running_loop().call_soon(note, "a callback sees the context of its registration");
    request_id.reset(token);
    co_await coil::sleep(0s);
    note("back again");
}

int main() { coil::run(serve()); }
