// FAIL: a coroutine function is no callback
#include "coil/coil.hpp"
coil::Coro<> f() { co_return; }
void g(coil::EventLoop& loop) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    loop.add_signal_handler(10, f);
#endif
    loop.add_signal_handler(10, [] {});
}
