#pragma once

// A loop on virtual time: the clock stands still while anything can run, and jumps to the next deadline when nothing can. Tests
// with hours of sleeping take microseconds and do the same every time. It watches no descriptors.

#include <memory>
#include <stdexcept>

#include "coil/events.hpp"

namespace coil::testing {

/// Every task waits for something that cannot come any more. The text lists the tasks and what each waits for, with the lines of
/// their awaits. Leaves `run` or `run_forever`.
class DeadlockError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// For `loop_factory`: `run(main(), {.loop_factory = testing::virtual_loop})`.
std::unique_ptr<EventLoop> virtual_loop();

}  // namespace coil::testing
