#pragma once

#include "base/inspection.hpp"
#include "coil/detail/task_base.hpp"

namespace coil::detail {

template <>
struct LayoutOf<LeafWaiter> : LeafWaiter {
    static consteval std::size_t task() { return offsetof(LayoutOf, task_); }

  protected:
    ~LayoutOf() = default;
};

/// Milliseconds of a clock that costs next to nothing to read, modulo 2^32.
std::uint32_t coarse_milliseconds() noexcept;

}  // namespace coil::detail
