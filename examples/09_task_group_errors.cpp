// A TaskGroup: when a task fails, its siblings are cancelled, and all that failed comes out as one ExceptionGroup.

#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

coil::Coro<> bad_value() {
    co_await coil::sleep(10ms);
    throw coil::ValueError("seven is not a colour");
}

coil::Coro<> fails_in_cleanup() {
    auto outcome = co_await coil::try_await(coil::sleep(1h));
    if (outcome.cancelled()) throw coil::RuntimeError("could not undo it");
}

coil::Coro<> well_behaved() {
    auto outcome = co_await coil::try_await(coil::sleep(1h));
    fmt::print("well_behaved cancelled: {}\n", outcome.cancelled());
    outcome.value();
}

coil::Coro<> parent() {
    try {
        co_await coil::async_with(coil::TaskGroup(), [](coil::TaskGroup& group) -> coil::Coro<> {
            group.create_task(bad_value());
            group.create_task(fails_in_cleanup());
            group.create_task(well_behaved());
            co_await coil::sleep(1h);  // the body is cancelled as well
        });
    } catch (const coil::ExceptionGroup& group) {
        fmt::print("{}\n", group.what());
        for (const std::exception_ptr& error : group.exceptions())
            fmt::print("  {}\n", coil::describe_exception(error));

        // Python's `except*`: what matches, and the rest.
        auto [values, others] = group.split<coil::ValueError>();
        fmt::print("{} ValueError, {} other\n", values->exceptions().size(), others->exceptions().size());
    }
}

int main() { coil::run(parent()); }
