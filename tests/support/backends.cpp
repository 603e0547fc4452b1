#include "support/backends.hpp"

#include "coil/exceptions.hpp"
#include "support/child.hpp"

namespace support {

bool uring_available() {
    try {
        coil::uring_loop()->close();
        return true;
    } catch (const coil::OSError&) {
        return false;
    }
}

void OnBackend::SetUp() {
    if (GetParam() == coil::Backend::URING && !uring_available()) GTEST_SKIP() << "no io_uring here";
    loop_ = make_loop();
}

void OnBackend::TearDown() {
    if (loop_) loop_->close();
}

std::unique_ptr<coil::EventLoop> OnBackend::make_loop() const { return factory()(); }

coil::LoopFactory OnBackend::factory() const {
    return GetParam() == coil::Backend::URING ? coil::uring_loop : coil::epoll_loop;
}

void OnBackend::run_in_child(coil::Coro<bool> (*body)()) const {
    constexpr int FAILED = 1;
    constexpr int SKIPPED = 77;
    ChildResult result = in_child([&] {
        bool done = coil::run(body(), {.loop_factory = factory()});
        return HasFailure() ? FAILED : done ? 0 : SKIPPED;
    });
    if (result.exit_code == SKIPPED) GTEST_SKIP() << "the system forbids what this needs";
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

std::string backend_name(const ::testing::TestParamInfo<coil::Backend>& info) {
    return info.param == coil::Backend::URING ? "uring" : "epoll";
}

}  // namespace support
