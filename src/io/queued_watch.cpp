#include "io/queued_watch.hpp"

#include "coil/events.hpp"

namespace coil::detail {

QueuedWatch::QueuedWatch(EventLoop& loop, int descriptor, Runnable::Function function) noexcept
    : Watch(descriptor, Mode::EDGE, &queue_on_ready), Runnable(function), core_(loop.core()) {}

void QueuedWatch::start() {
    if (started_) return;
    core_.poller->add(*this);
    started_ = true;
}

void QueuedWatch::stop() noexcept {
    if (!std::exchange(started_, false)) return;
    core_.poller->remove(*this);
}

void QueuedWatch::queue() noexcept {
    if (queued_) return;
    queued_ = true;
    core_.ready.push(*this);
}

}  // namespace coil::detail
