#pragma once

#include <cstdint>

namespace coil::detail {

/// How often this process was forked since the program began. A forked child has none of its parent's threads.
unsigned forks() noexcept;

/// A number that no other thread of this process has or ever had; another one after a fork. Unlike gettid() no system call.
std::uint64_t thread_number() noexcept;

}  // namespace coil::detail
