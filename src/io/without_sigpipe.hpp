#pragma once

#include <pthread.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace coil::detail {

/// Keeps SIGPIPE from the thread for the time of one write. What the write raised is taken away; what was pending before stays.
class WithoutSigpipe {
  public:
    WithoutSigpipe() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    ~WithoutSigpipe() {
        if (sigismember(&before_, SIGPIPE)) return;
        if (raised_) {
            timespec at_once{};
            while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
            }
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    WithoutSigpipe(const WithoutSigpipe&) = delete;
    WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;
    void raised() noexcept { raised_ = true; }

  private:
    sigset_t pipe_{};
    sigset_t before_{};
    bool raised_ = false;
};

}  // namespace coil::detail
