#pragma once

// Non-blocking sockets: an owned descriptor, and the waits for one.

#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/task_base.hpp"
#include "io/address.hpp"
#include "platform/poller.hpp"

namespace coil::detail {

class Socket {
  public:
    Socket() noexcept = default;
    explicit Socket(int fd) noexcept : fd_(fd) {}
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    /// A non-blocking stream socket, not inherited by children.
    static Socket stream(int family);

    int fd() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    void close() noexcept;
    void set_option(int level, int option, int value) const;

  private:
    int fd_ = -1;
};

/// A watch whose readiness puts one runnable into the loop's queue: what becomes ready in a poll is dealt with in the batch after
/// it, in order.
class QueuedWatch : public Watch, public Runnable {
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

  private:
    static void queue_on_ready(Watch& watch) { static_cast<QueuedWatch&>(watch).queue(); }
    LoopCore& core_;
    bool started_ = false;
    bool queued_ = false;
};

/// Connects to the first address that works, one after the other. The error of the only address, or one that names all.
Coro<Socket> connect_to_any(std::vector<Address> addresses);

}  // namespace coil::detail
