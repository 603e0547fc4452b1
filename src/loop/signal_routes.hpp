#pragma once

// Which loop's inbox a signal goes to. A signal goes to one inbox of the process; its former action is kept and restored.

#include <memory>

#include "loop/inbox.hpp"

namespace coil::detail {

/// What happens to the third SIGINT in a row that no loop has seen.
enum class WhenStuck { NOTE_IT, END_THE_PROCESS };

/// From now on the signal is noted in the inbox. OSError if it cannot be caught. Routes of one signal nest, as that of a handler
/// for SIGINT does in a run.
void route_signal(int signal_number, std::shared_ptr<Inbox> inbox, WhenStuck when_stuck);
/// Takes one route to the inbox back: the one before it counts again. With the last one, the action from before them is restored.
void unroute_signal(int signal_number, const Inbox& inbox, WhenStuck when_stuck) noexcept;
/// The action of a process that never touched the signal: SIG_DFL.
bool has_default_action(int signal_number) noexcept;

}  // namespace coil::detail
