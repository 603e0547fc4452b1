// FAIL: no match
#include "coil/coil.hpp"
coil::Coro<> f() { co_return; }
coil::Coro<> g() {
    std::vector<coil::Coro<>> coros;
    std::vector<coil::Task<>> tasks;
#ifndef COIL_COMPILE_FAIL_BASELINE
    co_await coil::wait(std::move(coros));
#endif
    co_await coil::wait(tasks);
}
