#include "io/queued_watch.hpp"

#include "coil/events.hpp"

namespace coil::detail {

QueuedWatch::QueuedWatch(EventLoop& loop, int descriptor, Runnable::Function function) noexcept
    : Runnable(function), Watch(descriptor, Mode::EDGE, &queue_on_ready), loop_(loop) {}

void QueuedWatch::start() {
    if (started_) return;
    loop_.core().poller->add(*this);
    started_ = true;
}

void QueuedWatch::stop() noexcept {
    if (!std::exchange(started_, false)) return;
    loop_.core().poller->remove(*this);
}

void QueuedWatch::queue() noexcept {
    if (queued_) return;
    queued_ = true;
    loop_.core().ready.push(*this);
}

}  // namespace coil::detail
