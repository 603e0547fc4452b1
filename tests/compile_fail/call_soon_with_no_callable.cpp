// FAIL: no match
#include "coil/coil.hpp"
void g(coil::EventLoop& loop) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    loop.call_soon(5);
#endif
    loop.call_soon([] {});
}
