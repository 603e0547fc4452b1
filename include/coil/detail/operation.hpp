#pragma once

// A plain awaiter that also stands for a Coro<T>: `co_await op` waits where it stands, without a frame of its own;
// anything else (`create_task(op)`, `gather(op, …)`) takes it as the Coro<T> that it derives from, and wraps it in one.

#include "coil/coroutines.hpp"

namespace coil::detail {

template <class T>
class Operation : public Coro<T>, public OperationTag {
  protected:
    Operation() noexcept = default;
    Operation(Operation&&) noexcept = default;
    ~Operation() = default;
};

}  // namespace coil::detail
