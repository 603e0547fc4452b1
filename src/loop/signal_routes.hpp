#pragma once

// Which loop's inbox a signal goes to. One route per signal in the process; its former action is kept and restored.

#include <memory>

#include "loop/inbox.hpp"

namespace coil::detail {

/// From now on the signal is noted in the inbox. OSError if it cannot be caught.
void route_signal(int signal_number, std::shared_ptr<Inbox> inbox);
/// Restores the action from before the route.
void unroute_signal(int signal_number) noexcept;
/// The action of a process that never touched the signal: SIG_DFL.
bool has_default_action(int signal_number) noexcept;

}  // namespace coil::detail
