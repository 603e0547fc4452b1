#include "debug/stuck_program.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace {

std::string read_some(int fd) {
    std::array<char, 4096> bytes;
    ssize_t size = ::read(fd, bytes.data(), bytes.size());
    return {bytes.data(), static_cast<std::size_t>(size > 0 ? size : 0)};
}

/// A child whose output comes through the pipe.
pid_t start(const std::vector<std::string>& command, int& output, std::vector<std::string> environment) {
    std::array<int, 2> pipe;
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::dup2(pipe[1], STDOUT_FILENO);
        ::dup2(pipe[1], STDERR_FILENO);
        for (std::string& setting : environment) ::putenv(setting.data());
        ::execvp(arguments[0], arguments.data());
        ::_exit(127);
    }
    ::close(pipe[1]);
    output = pipe[0];
    return pid;
}

}  // namespace

StuckProgram::StuckProgram(const std::string& kind, const std::string& backend, const Options& options) {
    std::vector<std::string> command{COIL_STUCK_PROGRAM, kind};
    if (options.graph) command.emplace_back("graph");
    std::vector<std::string> environment = options.environment;
    environment.push_back("COIL_BACKEND=" + backend);
    pid_ = start(command, pipe_, std::move(environment));
    while (!output_.ends_with("ready\n")) {
        std::string more = read_some(pipe_);
        if (more.empty()) break;
        output_ += more;
    }
    if (!output_.ends_with("ready\n")) throw std::runtime_error("it ended with: " + output_);
    output_.resize(output_.size() - std::string("ready\n").size());
}

StuckProgram::~StuckProgram() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    ::close(pipe_);
}

std::string StuckProgram::end_by(int signal_number) {
    ::kill(pid_, signal_number);
    std::string said;
    for (std::string more = read_some(pipe_); !more.empty(); more = read_some(pipe_)) said += more;
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
    return said;
}

bool StuckProgram::alive() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }

CommandResult run_command(const std::vector<std::string>& command) {
    int output = -1;
    pid_t pid = start(command, output, {});
    CommandResult result{};
    for (std::string more = read_some(output); !more.empty(); more = read_some(output)) result.output += more;
    ::close(output);
    int status = 0;
    ::waitpid(pid, &status, 0);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return result;
}

bool may_trace() {
    static const bool may = [] {
        pid_t pid = ::fork();
        if (pid == 0) {
            for (;;) ::pause();
        }
        bool attached = ::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return attached;
    }();
    return may;
}

bool core_files_are_small() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#elif defined(__has_feature)
    return !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
    return true;
#endif
}
