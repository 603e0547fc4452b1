#include "io/spawn.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/c_text.hpp"
#include "coil/exceptions.hpp"
#include "io/pidfd.hpp"

extern char** environ;

namespace coil::detail {

namespace {

// ---- the child's side
//
// After vfork() the child borrows the parent's memory, and the parent's thread stands still until the child execs or ends. So here
// is nothing but system calls: no allocation, no lock, no exception, no destructor, and no signal handler of the parent's.

enum class Step : int { CWD, SETUP, EXEC };

struct Failure {
    int error;
    Step step;
};

struct ChildPlan {
    std::array<int, 3> sources{-1, -1, -1};  // what becomes 0, 1 and 2; -1: as it is
    const char* cwd = nullptr;
    int umask = -1;
    bool restore_signals = false;
    sigset_t mask{};
    bool new_session = false;
    const int* process_group = nullptr;
    const gid_t* groups = nullptr;
    std::size_t group_count = 0;
    const unsigned* group = nullptr;
    const unsigned* user = nullptr;
    void (*preexec)() = nullptr;
    const int* pass = nullptr;
    std::size_t pass_count = 0;
    bool close_fds = false;
    const int* keep = nullptr;  // sorted: those that are passed, and `report`
    std::size_t keep_count = 0;
    const char* const* candidates = nullptr;  // null at the end
    char* const* argv = nullptr;
    char* const* envp = nullptr;
    int report = -1;  // closed by exec
};

void close_between(unsigned first, unsigned last) {
    if (first > last || ::syscall(SYS_close_range, first, last, 0u) == 0) return;
    rlimit limit{};
    unsigned most = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1'000'000
                        ? static_cast<unsigned>(limit.rlim_cur)
                        : 1'000'000;
    for (unsigned fd = first; fd <= last && fd < most; ++fd) ::close(static_cast<int>(fd));
}

bool place_streams(const ChildPlan& plan) {
    std::array<int, 3> sources = plan.sources;
    for (int i = 0; i < 3; ++i) {
        int& source = sources[static_cast<std::size_t>(i)];
        // Out of the way of the others.
        bool in_the_way = source >= 0 && source <= 2 && source != i;
        if (in_the_way && (source = ::fcntl(source, F_DUPFD_CLOEXEC, 3)) < 0) return false;
    }
    for (int i = 0; i < 3; ++i) {
        int source = sources[static_cast<std::size_t>(i)];
        if (source == i) {
            if (::fcntl(i, F_SETFD, 0) < 0) return false;
        } else if (source >= 0 && ::dup2(source, i) < 0) {
            return false;
        }
    }
    return true;
}

bool restore_signals(const ChildPlan& plan) {
    struct sigaction action{};
    struct sigaction by_default{};
    by_default.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) {
        if (::sigaction(number, nullptr, &action) < 0) continue;
        bool wanted = plan.restore_signals && (number == SIGPIPE || number == SIGXFSZ);
        if (action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && !wanted)) continue;
        ::sigaction(number, &by_default, nullptr);
    }
    return ::sigprocmask(SIG_SETMASK, &plan.mask, nullptr) == 0;
}

/// glibc's functions would change the credentials of the parent's threads.
bool change_identity(const ChildPlan& plan) {
    if (plan.groups && ::syscall(SYS_setgroups, plan.group_count, plan.groups) < 0) return false;
    if (plan.group && ::syscall(SYS_setregid, *plan.group, *plan.group) < 0) return false;
    return !plan.user || ::syscall(SYS_setreuid, *plan.user, *plan.user) >= 0;
}

[[noreturn]] void fail(const ChildPlan& plan, Step step) {
    Failure failure{errno, step};
    [[maybe_unused]] ssize_t written = ::write(plan.report, &failure, sizeof failure);
    ::_exit(255);
}

[[noreturn]] void run_child(const ChildPlan& plan) {
    if (!place_streams(plan)) fail(plan, Step::SETUP);
    if (plan.cwd && ::chdir(plan.cwd) < 0) fail(plan, Step::CWD);
    if (plan.umask >= 0) ::umask(static_cast<mode_t>(plan.umask));
    if (!restore_signals(plan)) fail(plan, Step::SETUP);
    if (plan.new_session && ::setsid() < 0) fail(plan, Step::SETUP);
    if (plan.process_group && ::setpgid(0, *plan.process_group) < 0) fail(plan, Step::SETUP);
    if (!change_identity(plan)) fail(plan, Step::SETUP);
    if (plan.preexec) plan.preexec();
    for (std::size_t i = 0; i < plan.pass_count; ++i) {
        int flags = ::fcntl(plan.pass[i], F_GETFD);
        if (flags < 0 || ::fcntl(plan.pass[i], F_SETFD, flags & ~FD_CLOEXEC) < 0) fail(plan, Step::SETUP);
    }
    if (plan.close_fds) {
        unsigned first = 3;
        for (std::size_t i = 0; i < plan.keep_count; ++i) {
            auto kept = static_cast<unsigned>(plan.keep[i]);
            if (kept > first) close_between(first, kept - 1);
            first = std::max(first, kept + 1);
        }
        close_between(first, std::numeric_limits<unsigned>::max());
    }
    int worst = 0;
    for (const char* const* path = plan.candidates; *path; ++path) {
        ::execve(*path, plan.argv, plan.envp);
        if (errno != ENOENT && errno != ENOTDIR && worst == 0) worst = errno;
    }
    if (worst) errno = worst;
    fail(plan, Step::EXEC);
}

[[gnu::noinline]] pid_t fork_child(const ChildPlan& plan) {
    pid_t pid = plan.preexec ? ::fork() : ::vfork();
    if (pid == 0) run_child(plan);
    return pid;
}

// ---- the parent's side

/// No handler of this thread's may run in the child while it borrows our memory.
class AllSignalsBlocked {
  public:
    AllSignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    AllSignalsBlocked(const AllSignalsBlocked&) = delete;
    AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

    sigset_t before{};
};

std::pair<Socket, Socket> make_pipe() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) < 0) throw_os_error(errno);
    return {Socket::adopt_nonblocking(fds[0]), Socket::adopt_nonblocking(fds[1])};
}

/// Pointers to the texts, and a null behind them.
std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> all;
    all.reserve(texts.size() + 1);
    for (std::string& text : texts) all.push_back(text.data());
    all.push_back(nullptr);
    return all;
}

void reap(pid_t pid) noexcept {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
}

void check_text(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) throw ValueError("embedded null byte");
}

}  // namespace

SpawnPlan::SpawnPlan(std::vector<std::string> argv, const SubprocessOptions& options, Stdio unsaid)
    : argv_(std::move(argv)),
      options_(options),
      streams_{options.stdin_.value_or(unsaid), options.stdout_.value_or(unsaid),
               options.stderr_.value_or(unsaid)},
      cwd_(options.cwd),
      executable_(options.executable),
      pass_fds_(options.pass_fds.begin(), options.pass_fds.end()),
      user_(options.user),
      group_(options.group) {
    if (options.env) {
        env_.emplace();
        options.env.list(
            [this](std::string_view name, std::string_view value) { env_->emplace_back(name, value); });
    }
    if (options.extra_groups) {
        extra_groups_.emplace();
        for (const Account& account : *options.extra_groups) extra_groups_->emplace_back(account);
    }
    std::ranges::sort(pass_fds_);
}

void SpawnPlan::check() const {
    for (const std::string& text : argv_) check_text(text);
    check_text(executable_);
    check_text(cwd_);
    if (env_) {
        for (const auto& [name, value] : *env_) {
            check_text(name);
            check_text(value);
            if (name.empty() || name.find('=') != std::string::npos)
                throw ValueError("illegal environment variable name");
        }
    }
    if (streams_[0].kind() == Stdio::Kind::STDOUT || streams_[1].kind() == Stdio::Kind::STDOUT)
        throw ValueError("STDOUT can only be used for stderr");
    for (const Stdio& stream : streams_) {
        if (stream.kind() == Stdio::Kind::DESCRIPTOR && stream.fd() < 0)
            throw ValueError("a file descriptor is not negative");
    }
    if (!pass_fds_.empty() && pass_fds_.front() < 0) throw ValueError("bad value(s) in fds_to_keep");
    if (options_.limit == 0) throw ValueError("Limit cannot be <= 0");
}

/// The files that the program's name may mean, in the child's PATH.
std::vector<std::string> SpawnPlan::candidates() const {
    const std::string& name = executable_.empty() ? argv_.front() : executable_;
    if (name.find('/') != std::string::npos) return {name};
    std::string path = "/bin:/usr/bin";
    if (env_) {
        for (const auto& [variable, value] : *env_) {
            if (variable == "PATH") path = value;
        }
    } else if (const char* ours = std::getenv("PATH")) {
        path = ours;
    }
    std::vector<std::string> files;
    std::size_t begin = 0;
    while (begin <= path.size()) {
        std::size_t end = std::min(path.find(':', begin), path.size());
        std::string folder = path.substr(begin, end - begin);
        files.push_back(folder.empty() ? name : folder + "/" + name);
        begin = end + 1;
    }
    return files;
}

std::vector<std::string> SpawnPlan::environment() const {
    std::vector<std::string> variables;
    for (const auto& [name, value] : *env_) variables.push_back(name + "=" + value);
    return variables;
}

unsigned SpawnPlan::user_id(const OwnAccount& user) {
    if (user.name.empty()) return user.id;
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> buffer(16 * 1024);
    ::getpwnam_r(c_text(user.name), &entry, buffer.data(), buffer.size(), &found);
    if (!found) throw ValueError(fmt::format("there is no user '{}'", user.name));
    return found->pw_uid;
}

unsigned SpawnPlan::group_id(const OwnAccount& group) {
    if (group.name.empty()) return group.id;
    ::group entry{};
    ::group* found = nullptr;
    std::vector<char> buffer(64 * 1024);
    ::getgrnam_r(c_text(group.name), &entry, buffer.data(), buffer.size(), &found);
    if (!found) throw ValueError(fmt::format("there is no group '{}'", group.name));
    return found->gr_gid;
}

std::string SpawnPlan::describe() const {
    std::string text;
    for (const std::string& argument : argv_)
        text += fmt::format("{}'{}'", text.empty() ? "" : " ", argument);
    return text;
}

SpawnedChild SpawnPlan::start() const {
    check();
    ChildPlan plan;
    SpawnedChild child;

    std::array<Socket, 3> theirs;
    for (std::size_t i = 0; i < 3; ++i) {
        switch (streams_[i].kind()) {
            case Stdio::Kind::INHERIT:
                break;
            case Stdio::Kind::PIPE: {
                auto [reading, writing] = make_pipe();
                if (options_.pipesize > 0 && ::fcntl(writing.fileno(), F_SETPIPE_SZ, options_.pipesize) < 0)
                    throw_os_error(errno);
                theirs[i] = std::move(i == 0 ? reading : writing);
                child.pipes[i] = std::move(i == 0 ? writing : reading);
                plan.sources[i] = theirs[i].fileno();
                break;
            }
            case Stdio::Kind::DEVNULL:
                theirs[i] = Socket::adopt_nonblocking(::open("/dev/null", O_RDWR | O_CLOEXEC));
                if (!theirs[i]) throw_os_error(errno);
                plan.sources[i] = theirs[i].fileno();
                break;
            case Stdio::Kind::STDOUT:
                plan.sources[i] = plan.sources[1] >= 0 ? plan.sources[1] : 1;
                break;
            case Stdio::Kind::DESCRIPTOR:
                plan.sources[i] = streams_[i].fd();
                break;
        }
    }

    auto files = candidates();
    auto file_pointers = pointers(files);
    plan.candidates = file_pointers.data();
    auto arguments = argv_;
    auto argument_pointers = pointers(arguments);
    plan.argv = argument_pointers.data();
    std::vector<std::string> variables;
    std::vector<char*> variable_pointers;
    plan.envp = environ;
    if (env_) {
        variables = environment();
        variable_pointers = pointers(variables);
        plan.envp = variable_pointers.data();
    }
    if (!cwd_.empty()) plan.cwd = c_text(cwd_, "embedded null byte");
    plan.umask = options_.umask;
    plan.restore_signals = options_.restore_signals;
    plan.new_session = options_.start_new_session;
    if (options_.process_group) plan.process_group = &*options_.process_group;
    unsigned user = user_.given ? user_id(user_) : 0;
    unsigned group = group_.given ? group_id(group_) : 0;
    if (user_.given) plan.user = &user;
    if (group_.given) plan.group = &group;
    std::vector<gid_t> groups;
    if (extra_groups_) {
        for (const OwnAccount& account : *extra_groups_) groups.push_back(group_id(account));
        plan.group_count = groups.size();
        groups.push_back(0);  // so that an empty list has an address, too
        plan.groups = groups.data();
    }
    plan.preexec = options_.preexec_fn;

    auto [report, report_end] = make_pipe();
    // Above the standard streams, whose places the child fills.
    Socket reporting = Socket::adopt_nonblocking(::fcntl(report_end.fileno(), F_DUPFD_CLOEXEC, 3));
    if (!reporting) throw_os_error(errno);
    report_end.close();
    plan.report = reporting.fileno();
    plan.pass = pass_fds_.data();
    plan.pass_count = pass_fds_.size();
    plan.close_fds = options_.close_fds || !pass_fds_.empty();
    auto keep = pass_fds_;
    keep.insert(std::ranges::upper_bound(keep, plan.report), plan.report);
    plan.keep = keep.data();
    plan.keep_count = keep.size();

    {
        AllSignalsBlocked blocked;
        plan.mask = blocked.before;
        child.pid = fork_child(plan);
    }
    if (child.pid < 0) throw_os_error(errno);
    reporting.close();
    Failure failure{};
    ssize_t size = 0;
    do {
        size = ::read(report.fileno(), &failure, sizeof failure);
    } while (size < 0 && errno == EINTR);
    if (size == sizeof failure) {
        reap(child.pid);
        const std::string& what = failure.step == Step::CWD ? cwd_
                                  : executable_.empty()     ? argv_.front()
                                                            : executable_;
        throw_os_error(failure.error, failure.step == Step::SETUP
                                          ? ""
                                          : fmt::format("{}: '{}'", std::strerror(failure.error), what));
    }
    child.pidfd = Socket::adopt_nonblocking(open_pidfd(child.pid));
    if (!child.pidfd && errno != ESRCH) {
        int error = errno;
        ::kill(child.pid, SIGKILL);
        reap(child.pid);
        throw_os_error(error);
    }
    return child;
}

}  // namespace coil::detail
