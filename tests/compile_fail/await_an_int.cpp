// FAIL: this cannot be awaited in a coil coroutine
#include "coil/coil.hpp"
coil::Coro<> g() {
#ifndef COIL_COMPILE_FAIL_BASELINE
    co_await 5;
#endif
    co_return;
}
