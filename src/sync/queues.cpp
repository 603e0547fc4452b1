#include "coil/queues.hpp"

#include <algorithm>

namespace coil::detail {

void QueueBase::task_done() {
    if (unfinished_ == 0) throw ValueError("task_done() called too many times");
    if (--unfinished_ == 0) finished_.set();
}

void QueueBase::items_dropped(std::size_t count) noexcept {
    unfinished_ -= std::min(count, unfinished_);
    if (unfinished_ == 0) finished_.set();
}

void QueueBase::wake_everybody() noexcept {
    getters_.wake_all();
    putters_.wake_all();
}

}  // namespace coil::detail
