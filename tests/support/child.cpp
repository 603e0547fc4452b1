#include "support/child.hpp"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>

#include "support/errors.hpp"

namespace support {

ChildResult in_child(const std::function<int()>& body) {
    int ends[2];
    if (::pipe(ends) < 0) return {};
    std::fflush(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        int code = 99;
        try {
            code = body();
        } catch (...) {
            std::fprintf(stderr, "child threw %s\n", error_text(std::current_exception()).c_str());
        }
        std::fflush(nullptr);
        ::_exit(code);
    }
    ::close(ends[1]);
    ChildResult result;
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
        pollfd readable{ends[0], POLLIN, 0};
        if (::poll(&readable, 1, 1000) > 0) {
            char buffer[4096];
            ssize_t size = ::read(ends[0], buffer, sizeof buffer);
            if (size <= 0) break;
            result.output.append(buffer, static_cast<std::size_t>(size));
        } else if (std::chrono::steady_clock::now() > limit) {
            ::kill(pid, SIGKILL);
            result.output += "\n(killed: it took too long)";
            break;
        }
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    return result;
}

bool forbid_call(long number, int errnum, int only_fd) {
    std::uint8_t unless_fd = only_fd < 0 ? 0 : 1;
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),  // the low half: little endian
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(only_fd), 0, unless_fd),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (static_cast<unsigned>(errnum) & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{sizeof filter / sizeof filter[0], filter};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

bool forbid_io_uring(int errnum) { return forbid_call(SYS_io_uring_setup, errnum); }

}  // namespace support
