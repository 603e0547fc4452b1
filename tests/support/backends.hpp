#pragma once

// Tests of what touches the kernel run on every backend that the kernel has.

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "coil/events.hpp"
#include "coil/runners.hpp"

namespace support {

/// Whether this process may set up io_uring.
bool uring_available();

/// A fixture with a loop on the backend that is the test's parameter.
class OnBackend : public ::testing::TestWithParam<coil::Backend> {
  protected:
    void SetUp() override;
    void TearDown() override;

    coil::EventLoop& loop() { return *loop_; }
    std::unique_ptr<coil::EventLoop> make_loop() const;
    /// For `run(…, {.loop_factory = factory()})`.
    coil::LoopFactory factory() const;
    /// Runs the coroutine on this backend in a forked child, for the end of a test. False: it cannot do here what it is for, and
    /// the test is skipped.
    void run_in_child(coil::Coro<bool> (*body)()) const;

  private:
    std::unique_ptr<coil::EventLoop> loop_;
};

std::string backend_name(const ::testing::TestParamInfo<coil::Backend>& info);

}  // namespace support

#define ON_EVERY_BACKEND(fixture)                                                           \
    INSTANTIATE_TEST_SUITE_P(Backends, fixture,                                             \
                             ::testing::Values(coil::Backend::EPOLL, coil::Backend::URING), \
                             support::backend_name)
