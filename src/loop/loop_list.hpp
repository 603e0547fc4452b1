#pragma once

// All loops of the process, for who looks from outside: src/base/inspection.hpp.

#include "coil/detail/loop_core.hpp"

namespace coil::detail {

extern constinit LoopCore* first_loop;

void list_loop(LoopCore& loop) noexcept;
void unlist_loop(LoopCore& loop) noexcept;

}  // namespace coil::detail
