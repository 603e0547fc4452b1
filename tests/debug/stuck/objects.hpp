#pragma once

#include "coil/coroutines.hpp"

/// Fills the global variable `objects` with objects of coil's in all their states, for gdb to print, calls `ready`, and blocks
/// within its task's step.
coil::Coro<> make_objects(void (*ready)());
