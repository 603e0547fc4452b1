#pragma once

#include <span>
#include <string_view>

namespace coil::tools {

/// `coil trace summary FILE [--all] [--json]`: prints who used the time of the loop that was traced. Gives the exit code: 1 for a
/// file that cannot be read or is no trace, 2 for wrong usage.
int trace_summary(std::span<const std::string_view> arguments);

}  // namespace coil::tools
