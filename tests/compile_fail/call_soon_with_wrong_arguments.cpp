// FAIL: no match
#include "coil/coil.hpp"
void g(coil::EventLoop& loop) {
    auto f = [](int) {};
#ifndef COIL_COMPILE_FAIL_BASELINE
    loop.call_soon(f, "text");
#endif
    loop.call_soon(f, 1);
}
