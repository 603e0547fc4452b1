#include "coil/queues.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/inspection.hpp"

namespace coil::detail {

template <>
struct LayoutOf<QueueBase> {
    using Waiter = QueueBase::Wait::Waiter;
    static constexpr InspectionPath size = {offsetof(Waiter, queue_), offsetof(QueueBase, size_)};
};
COIL_INSPECTION_ROWS(queue) = {
    {"coil::detail::QueueBase::Wait::Waiter", "items", InspectionKind::COUNT, LayoutOf<QueueBase>::size},
};

std::string QueueBase::Wait::Waiter::describe() const {
    if (!linked()) return WaitNode::describe();
    std::string bound = queue_.maxsize_ > 0 ? fmt::format(" of {}", queue_.maxsize_) : "";
    return fmt::format("{} with {}{} items", WaitNode::describe(), queue_.size_, bound);
}

void QueueBase::Wait::Waiter::finish() {
    bool exists = leave_queue();
    if (cancellation_due()) {
        bool usable = exists && (&list_ == &queue_.getters_ ? !queue_.empty() : !queue_.full());
        if (usable && woken()) list_.wake_next();
        throw_cancelled();
    }
    if (!exists) throw_destroyed();
}

std::string QueueBase::describe_as(const char* kind) const {
    std::string bound = maxsize_ > 0 ? fmt::format(" of {}", maxsize_) : "";
    auto count = [](const char* who, const WaitQueue& queue) {
        return queue.empty() ? std::string() : fmt::format(", {} {}", queue.size(), who);
    };
    return fmt::format("<{} {}{} items{}{}{}>", kind, size_, bound, count("getting", getters_),
                       count("putting", putters_), shut_down_ ? ", shut down" : "");
}

void QueueBase::task_done() {
    if (unfinished_ == 0) throw ValueError("task_done() called too many times");
    if (--unfinished_ == 0) finished_.set();
}

void QueueBase::throw_cannot_put() const {
    if (shut_down_) throw QueueShutDown();
    throw QueueFull();
}

void QueueBase::throw_cannot_get() const {
    if (shut_down_) throw QueueShutDown();
    throw QueueEmpty();
}

void QueueBase::shut_down(std::size_t dropped) noexcept {
    shut_down_ = true;
    size_ -= dropped;
    if (dropped > 0) {
        unfinished_ -= std::min(dropped, unfinished_);
        if (unfinished_ == 0) finished_.set();
    }
    getters_.wake_all();
    putters_.wake_all();
}

}  // namespace coil::detail
