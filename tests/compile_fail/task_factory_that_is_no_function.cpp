// FAIL: no viable|cannot convert|could not convert|no known conversion
#include "coil/coil.hpp"
void g(coil::EventLoop& loop) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    loop.set_task_factory(5);
#endif
    loop.set_task_factory(coil::eager_task_factory);
}
