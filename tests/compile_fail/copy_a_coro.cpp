// FAIL: delet|copy
#include "coil/coil.hpp"
coil::Coro<> f() { co_return; }
void g() {
    auto first = f();
#ifndef COIL_COMPILE_FAIL_BASELINE
    auto second = first;
#endif
}
