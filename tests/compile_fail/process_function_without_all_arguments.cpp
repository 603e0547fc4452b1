// FAIL: submit
#include "coil/process_pool.hpp"
int add(int a, int b) { return a + b; }
void f(coil::ProcessPoolExecutor& pool) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    static_cast<void>(pool.submit(coil::process_function<add>, 1));
#endif
    static_cast<void>(pool.submit(coil::process_function<add>, 1, 2));
}
