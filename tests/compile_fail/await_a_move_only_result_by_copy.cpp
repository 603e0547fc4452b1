// FAIL: the result cannot be copied
#include <memory>

#include "coil/coil.hpp"
coil::Coro<> g(coil::Future<std::unique_ptr<int>> future) {
#ifndef COIL_COMPILE_FAIL_BASELINE
    co_await future;
#endif
    co_await std::move(future);
}
