#include "base/forks.hpp"

#include <pthread.h>

#include <atomic>

namespace coil::detail {

namespace {

std::atomic<unsigned> count{0};
std::atomic<std::uint64_t> threads{0};

struct Identity {
    std::uint64_t number;
    unsigned forks;
};
constinit thread_local Identity identity{};

[[maybe_unused]] const int registered =
    ::pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

unsigned forks() noexcept { return count.load(std::memory_order_relaxed); }

std::uint64_t thread_number() noexcept {
    unsigned now = forks();
    if (identity.number == 0 || identity.forks != now)
        identity = {threads.fetch_add(1, std::memory_order_relaxed) + 1, now};
    return identity.number;
}

}  // namespace coil::detail
