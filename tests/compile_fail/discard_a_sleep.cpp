// FAIL: nodiscard|unused
#include "coil/coil.hpp"
coil::Coro<> g() {
#ifndef COIL_COMPILE_FAIL_BASELINE
    coil::sleep(std::chrono::seconds(1));
#endif
    co_return;
}
