#pragma once

// Which loop's inbox a signal goes to. A signal goes to one inbox of the process; its former action is kept and restored.

#include <memory>

#include "loop/inbox.hpp"

namespace coil::detail {

/// From now on the signal is noted in the inbox. OSError if it cannot be caught. Routes of one signal nest: a handler in a run
/// that listens for SIGINT itself.
void route_signal(int signal_number, std::shared_ptr<Inbox> inbox);
/// Takes one route back; with the last one, the action from before them is restored.
void unroute_signal(int signal_number) noexcept;
/// The action of a process that never touched the signal: SIG_DFL.
bool has_default_action(int signal_number) noexcept;

}  // namespace coil::detail
