// FAIL: nodiscard|unused
#include "coil/coil.hpp"
coil::Coro<> f() { co_return; }
coil::Coro<> g() {
#ifndef COIL_COMPILE_FAIL_BASELINE
    f();
#endif
    co_return;
}
