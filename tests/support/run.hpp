#pragma once

// Running a coroutine on virtual time, and small things that coroutines in tests need.

#include <utility>

#include "coil/coil.hpp"
#include "coil/testing/virtual_loop.hpp"

namespace support {

using namespace std::chrono_literals;

/// Runs the coroutine as `coil::run` does, on virtual time: hours pass at once, a deadlock is a DeadlockError.
template <class T>
T run_virtual(coil::Coro<T> coro) {
    return coil::run(std::move(coro), {.loop_factory = coil::testing::virtual_loop});
}

/// Lets everything that is ready run, `turns` times.
inline coil::Coro<> turns(int count) {
    for (int i = 0; i < count; ++i) co_await coil::sleep(0s);
}

/// A loop on virtual time that is closed at the end of the scope.
class VirtualLoop {
  public:
    VirtualLoop() : loop_(coil::testing::virtual_loop()) {}
    ~VirtualLoop() { loop_->close(); }
    VirtualLoop(const VirtualLoop&) = delete;
    VirtualLoop& operator=(const VirtualLoop&) = delete;
    coil::EventLoop& operator*() const { return *loop_; }
    coil::EventLoop* operator->() const { return loop_.get(); }
    coil::EventLoop* get() const { return loop_.get(); }

  private:
    std::unique_ptr<coil::EventLoop> loop_;
};

/// Runs exactly one turn of the loop.
inline void run_one_turn(coil::EventLoop& loop) {
    loop.stop();
    loop.run_forever();
}

}  // namespace support
