#include "peers/process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "coil/coil.hpp"

extern char** environ;

namespace peers {

using namespace coil;

namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
}

/// In the child, between fork and exec.
[[noreturn]] void become(char* const* command, char* const* environment, int in, int out, pid_t parent,
                         const std::vector<int>& inherited) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(126);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(in, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    for (int fd : inherited) ::fcntl(fd, F_SETFD, 0);
    ::execvpe(command[0], command, environment);
    ::_exit(127);
}

}  // namespace

Coro<Process> Process::start(std::vector<std::string> command, std::vector<std::string> environment,
                             std::vector<int> inherited) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) < 0 || ::pipe2(out, O_CLOEXEC) < 0) throw RuntimeError("pipe2");
    for (char** variable = environ; *variable; ++variable) environment.emplace_back(*variable);
    std::vector<char*> arguments = pointers(command), variables = pointers(environment);
    pid_t parent = ::getpid();
    Process process;
    process.name_ = command[0];
    process.pid_ = ::fork();
    if (process.pid_ == 0) become(arguments.data(), variables.data(), in[0], out[1], parent, inherited);
    if (process.pid_ < 0) throw RuntimeError("fork");
    ::setpgid(process.pid_, process.pid_);
    ::close(in[0]);
    ::close(out[1]);

    EventLoop& loop = get_running_loop();
    process.output_.emplace();
    auto reading = [&] { return std::make_shared<StreamReaderProtocol>(*process.output_); };
    auto from = co_await loop.connect_read_pipe(reading, out[0]);
    process.output_transport_ = from.transport;
    StreamReader unused;
    auto writing = [&] { return std::make_shared<StreamReaderProtocol>(unused); };
    auto to = co_await loop.connect_write_pipe(writing, in[1]);
    process.input_.emplace(to.transport, to.protocol);
    co_return process;
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      name_(std::move(other.name_)),
      output_(std::move(other.output_)),
      input_(std::move(other.input_)),
      output_transport_(std::move(other.output_transport_)) {
    other.output_.reset();
    other.input_.reset();
}

Process::~Process() {
    if (pid_ > 0) {
        ::kill(-pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    if (input_) input_->close();
    if (output_transport_) output_transport_->close();
}

void Process::kill(int signal) noexcept {
    if (pid_ > 0) ::kill(pid_, signal);
}

Coro<std::string> Process::line_with(std::string text) {
    std::string before;
    while (auto line = co_await output_->next()) {
        if (line->find(text) != line->npos) co_return *line;
        before += *line;
    }
    throw RuntimeError(name_ + " ended without saying '" + text + "' but:\n" + before);
}

Coro<Process::Result> Process::finish() {
    input_->close();
    Result result;
    result.output = co_await output_->read();
    // The end of its output is the end of the program, or nearly so.
    int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    if (fd < 0) throw RuntimeError("pidfd_open");
    coil::Event ended;
    EventLoop& loop = get_running_loop();
    loop.add_reader(fd, [&] { ended.set(); });
    auto outcome = co_await try_await(ended.wait());
    loop.remove_reader(fd);
    ::close(fd);
    outcome.value();
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    co_return result;
}

}  // namespace peers
