#pragma once

// What other threads and signal handlers leave for the loop.
//
// Runnables: a stack that any thread pushes on and the loop takes whole, turning it round. The head is one of
//   null     nothing there
//   CLOSED   the loop is closed: pushing fails
//   a node   the newest; next_ leads to older ones
//
// Waking: a loop that is about to sleep says so, then looks once more; a pusher pushes, then looks whether the loop sleeps.
// Both in sequentially consistent order, so at least one of them sees the other. Only the first pusher wakes.
//
// Closing: whoever pushes or notes is counted as a visitor meanwhile. The descriptor is closed once the mark is there and the
// visitors from before it have left; who comes later sees the mark and does not touch the descriptor.

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/forks.hpp"
#include "coil/detail/runnable.hpp"
#include "platform/poller.hpp"

namespace coil::detail {

class Inbox {
  public:
    Inbox();
    ~Inbox();
    Inbox(const Inbox&) = delete;
    Inbox& operator=(const Inbox&) = delete;

    /// The descriptor that the poller watches.
    int wakeup_fd() const noexcept { return wakeup_->fd(); }

    /// Any thread. False if the loop is closed: the node stays the caller's.
    bool push(Runnable& node) noexcept;
    /// Signal handlers: notes the signal and wakes the loop. Signals 1 to 64. Gives how often this signal number has come
    /// since the loop last looked, if it is SIGINT.
    unsigned note_signal(int signal_number) noexcept;

    // ---- the loop's side

    bool empty() const noexcept {
        return head_.load(std::memory_order_relaxed) == nullptr &&
               signals_.load(std::memory_order_relaxed) == 0;
    }
    /// Appends what is there to the queue, oldest first.
    void take(ReadyQueue& queue) noexcept;
    /// The signals noted since the last call: bit n-1 for signal n.
    std::uint64_t take_signals() noexcept { return signals_.exchange(0, std::memory_order_acquire); }
    /// SIGINTs since the last call: two that come together must not count as one.
    unsigned take_interrupts() noexcept { return interrupts_.exchange(0, std::memory_order_acquire); }
    /// True if the loop may sleep now: nothing has come. Call awake() after the sleep in any case.
    bool prepare_sleep() noexcept;
    void awake() noexcept { asleep_.store(false, std::memory_order_relaxed); }
    /// No more pushes; discards what is there, and closes the descriptor, whoever still holds the inbox.
    void close() noexcept;

  private:
    class Visit;
    static Runnable* closed_mark() noexcept;

    std::atomic<Runnable*> head_{nullptr};
    std::atomic<std::uint64_t> signals_{0};
    std::atomic<unsigned> interrupts_{0};
    std::atomic<bool> asleep_{false};
    std::atomic<unsigned> visitors_{0};
    std::optional<Wakeup> wakeup_{std::in_place};
    unsigned forks_ = forks();
};

}  // namespace coil::detail
