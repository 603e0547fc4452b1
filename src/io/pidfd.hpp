#pragma once

// <sys/pidfd.h> of glibc 2.36 cannot be used from C++: it has no extern "C".

#include <sys/syscall.h>
#include <unistd.h>

namespace coil::detail {

/// The descriptor, closed by exec; readable when the process has ended. -1: see errno.
inline int open_pidfd(int pid) noexcept { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

inline int signal_pidfd(int pidfd, int signal_number) noexcept {
    return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal_number, nullptr, 0));
}

}  // namespace coil::detail
