#pragma once

#include "coil/detail/loop_core.hpp"
#include "platform/poller.hpp"

namespace coil::detail {

/// A watch whose readiness puts one runnable into the loop's queue: what becomes ready in a poll is dealt with in the batch after
/// it, in order.
class QueuedWatch : public Runnable, public Watch {
  public:
    QueuedWatch(EventLoop& loop, int descriptor, Runnable::Function function) noexcept;
    ~QueuedWatch() { stop(); }

    void start();
    void stop() noexcept;
    bool started() const noexcept { return started_; }
    /// Queues the runnable as if something had become ready.
    void queue() noexcept;
    /// The runnable has left the queue: first thing in its function.
    void dequeued() noexcept { queued_ = false; }
    bool queued() const noexcept { return queued_; }

    void forget(std::uint8_t events) noexcept { ready = static_cast<std::uint8_t>(ready & ~events); }

  private:
    static void queue_on_ready(Watch& watch) { static_cast<QueuedWatch&>(watch).queue(); }
    bool started_ = false;
    bool queued_ = false;

  protected:
    EventLoop& loop_;
};

}  // namespace coil::detail
