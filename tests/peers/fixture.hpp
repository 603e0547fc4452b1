#pragma once

// What the tests with other programs share. See process.hpp.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <any>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "peers/process.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/tls.hpp"

namespace peers {

using namespace std::chrono_literals;

/// Every test gives back its descriptors. The minute is for a machine under load: nothing waits for it to pass.
class Peers : public support::OnBackend {
  protected:
    void SetUp() override {
        support::certificates();
        OnBackend::SetUp();
        fds_ = support::open_fds();
    }
    void TearDown() override {
        if (!IsSkipped()) {
            EXPECT_EQ(support::open_fds(), fds_);
        }
        OnBackend::TearDown();
    }
    void run(coil::Coro<> coro) {
        coil::run(coil::wait_for(std::move(coro), 60s), {.loop_factory = factory()});
    }

  private:
    std::size_t fds_ = 0;
};

inline int port_of(const coil::Server& server) { return server.sockets().at(0).getsockname().port; }

inline coil::Coro<> hang_up(coil::StreamWriter writer) {
    writer.close();
    co_await writer.wait_closed();
}

inline coil::SslObject tls_of(const coil::StreamWriter& writer) {
    return std::any_cast<coil::SslObject>(writer.get_extra_info("ssl_object"));
}

inline constexpr const char* CUT_OFF =
    "SslEofError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol";

}  // namespace peers
