// FAIL: a coroutine cannot run in an executor
#include "coil/coil.hpp"
coil::Coro<> f() { co_return; }
void g(coil::EventLoop& loop) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    static_cast<void>(loop.run_in_executor(nullptr, f));
#endif
    static_cast<void>(loop.run_in_executor(nullptr, [] {}));
}
