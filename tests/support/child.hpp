#pragma once

// A test's part that runs in a forked child: for signals, limits and what would end the process.

#include <functional>
#include <string>

namespace support {

struct ChildResult {
    int exit_code = -1;  // -1: it was killed
    int signal = 0;      // that killed it
    std::string output;  // what it wrote to stdout and stderr
};

/// Runs `body` in a forked child, which exits with what it returns; 99 for an exception. Killed after a minute.
ChildResult in_child(const std::function<int()>& body);

/// In a child: from now on this system call fails with this errno, or only with this descriptor as its first argument; in this
/// thread and those that it starts, for ever. False where filters are forbidden.
bool forbid_call(long number, int errnum, int only_fd = -1);
/// io_uring_setup, as in a container.
bool forbid_io_uring(int errnum);

}  // namespace support
