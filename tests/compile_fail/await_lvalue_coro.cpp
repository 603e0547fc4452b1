// FAIL: awaited as an rvalue, once
#include "coil/coil.hpp"
coil::Coro<int> f() { co_return 1; }
coil::Coro<> g() {
    auto coro = f();
#ifndef COIL_COMPILE_FAIL_BASELINE
    co_await coro;
#endif
    co_await std::move(coro);
}
