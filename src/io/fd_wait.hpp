#pragma once

#include "coil/detail/task_base.hpp"
#include "coil/events.hpp"
#include "io/address.hpp"

namespace coil::detail {

/// Until a descriptor that no transport owns is readable, or writable. It shares the table of add_reader and add_writer: one
/// waiter for each direction, RuntimeError for a second one.
class FdWait final : public LeafWaiter, public OperationTag {
  public:
    enum class For { READING, WRITING };

    /// `description`: "sock_recv", for lists of what tasks wait for.
    FdWait(EventLoop& loop, int fd, For direction, const char* description) noexcept
        : loop_(loop), fd_(fd), direction_(direction), description_(description) {}
    ~FdWait() {
        if (pending()) stop();
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        watch();  // may throw
        LeafWaiter::suspend(at);
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const override;

  private:
    template <class>
    friend struct LayoutOf;

    void watch();
    void stop() noexcept;
    void called_off() noexcept override { stop(); }

    EventLoop& loop_;
    int fd_;
    For direction_;
    const char* description_;
};

/// Connects a non-blocking socket.
Coro<> connect_descriptor(EventLoop& loop, int fd, Address to);

}  // namespace coil::detail
