#pragma once

// Child processes.
//
//     Process p = co_await create_subprocess_exec("sort", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
//     auto [out, err] = co_await p.communicate("b\na\n");
//
// A child is watched by a pidfd: there is no helper thread, and no handler of SIGCHLD.

#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coil/connections.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/detail/parameters.hpp"
#include "coil/events.hpp"
#include "coil/fwd.hpp"
#include "coil/protocols.hpp"
#include "coil/streams.hpp"
#include "coil/transports.hpp"

namespace coil {

/// Where a child's standard stream goes: one of the constants below, a descriptor's number, or anything that has one.
class Stdio {
  public:
    enum class Kind : unsigned char { INHERIT, PIPE, STDOUT, DEVNULL, DESCRIPTOR };

    constexpr Stdio() noexcept = default;
    constexpr explicit Stdio(Kind kind) noexcept : kind_(kind) {}
    template <std::convertible_to<FileDescriptor> T>
    Stdio(const T& descriptor) : kind_(Kind::DESCRIPTOR), fd_(FileDescriptor(descriptor).fileno()) {}

    constexpr Kind kind() const noexcept { return kind_; }
    constexpr int fd() const noexcept { return fd_; }

  private:
    Kind kind_ = Kind::INHERIT;
    int fd_ = -1;
};

inline constexpr Stdio INHERIT{Stdio::Kind::INHERIT};  // the parent's own
inline constexpr Stdio PIPE{Stdio::Kind::PIPE};        // a pipe to the parent
inline constexpr Stdio STDOUT{Stdio::Kind::STDOUT};    // for stderr_: where stdout goes
inline constexpr Stdio DEVNULL{Stdio::Kind::DEVNULL};

/// The variables of a child's environment: a view of a map or of a vector of pairs, which must live until the call has been made.
class Environment {
  public:
    using Sink = Function<void(std::string_view name, std::string_view value)>;

    /// The parent's.
    constexpr Environment() noexcept = default;
    template <class Variables>
        requires(!std::same_as<Variables, Environment>)
    Environment(const Variables& variables) noexcept
        : variables_(&variables), list_([](const void* all, const Sink& sink) {
              for (const auto& [name, value] : *static_cast<const Variables*>(all)) sink(name, value);
          }) {}

    explicit operator bool() const noexcept { return list_ != nullptr; }
    void list(const Sink& sink) const { list_(variables_, sink); }

  private:
    const void* variables_ = nullptr;
    void (*list_)(const void*, const Sink&) = nullptr;
};

/// A user or a group, by number or by name.
class Account {
  public:
    constexpr Account() noexcept = default;
    constexpr Account(unsigned id) noexcept : id_(id), given_(true) {}
    constexpr Account(int id) noexcept : id_(static_cast<unsigned>(id)), given_(true) {}
    constexpr Account(std::string_view name) noexcept : name_(name), given_(true) {}
    constexpr Account(const char* name) noexcept : Account(std::string_view(name)) {}

    constexpr explicit operator bool() const noexcept { return given_; }
    constexpr std::string_view name() const noexcept { return name_; }  // empty: by number
    constexpr unsigned id() const noexcept { return id_; }

  private:
    std::string_view name_;
    unsigned id_ = 0;
    bool given_ = false;
};

/// How to start a process. All is copied when the call is made, not when it is awaited.
struct SubprocessOptions {
    // Nothing: inherited by create_subprocess_exec and _shell, a pipe for loop.subprocess_exec and _shell.
    std::optional<Stdio> stdin_{};
    std::optional<Stdio> stdout_{};
    std::optional<Stdio> stderr_{};
    std::string_view cwd{};              // the child's working directory; empty: the parent's
    Environment env{};                   // instead of the parent's
    std::string_view executable{};       // the file to run, if not the program's name or the shell
    std::size_t limit = 64 * 1024;       // of the stream readers, in bytes
    bool close_fds = true;               // close all descriptors above 2 in the child, inheritable or not
    std::span<const int> pass_fds{};     // but for these, which keep their numbers
    bool start_new_session = false;      // setsid(2)
    std::optional<int> process_group{};  // setpgid(2); 0: one of its own
    void (*preexec_fn)() =
        nullptr;  // called in the child before exec: only what is safe in a signal handler. Slower: fork
    bool restore_signals = true;                             // SIGPIPE and SIGXFSZ to their default actions
    int umask = -1;                                          // of the child; -1: the parent's
    Account user{};                                          // setreuid(2)
    Account group{};                                         // setregid(2)
    std::optional<std::span<const Account>> extra_groups{};  // setgroups(2)
    int pipesize = -1;                                       // of the pipes, in bytes; -1: the kernel's
};

namespace detail {
class ProcessTransport;
}

/// A child process: a shared handle. The child goes on when all handles go; when the loop closes, it is killed.
class Process {
  public:
    int pid() const noexcept;
    /// In one line, see format.hpp.
    std::string describe() const;
    /// Nothing while it runs; -N after signal N.
    std::optional<int> returncode() const noexcept;
    /// Until the child has ended; gives its return code. Any number of tasks may wait.
    ///
    /// A child that writes more than a pipe holds waits for its reader: without one, use `communicate()`.
    Coro<int> wait();
    /// Writes the input, closes the child's standard input, reads its output and error to their ends, and waits for the child. Gives
    /// {output, error}, nothing for what is no pipe. A child that does not read all of its input is no error.
    Coro<std::pair<std::optional<std::string>, std::optional<std::string>>> communicate(
        std::optional<std::string> input = {});

    /// ProcessLookupError once the child is known to be gone.
    void send_signal(int signal_number);
    void terminate();
    void kill();

    /// The parent's ends of the pipes; false where there is none: `if (auto out = p.stdout_())`.
    StreamWriter stdin_() const;
    StreamReader stdout_() const;
    StreamReader stderr_() const;

    /// For coil's own layers.
    explicit Process(std::shared_ptr<detail::ProcessTransport> transport) noexcept;

  private:
    std::shared_ptr<detail::ProcessTransport> transport_;
};

/// Starts a program, found in PATH if its name has no slash. FileNotFoundError, PermissionError and other OSErrors if it does not
/// start; ValueError for options that make no sense.
Coro<Process> create_subprocess_exec(std::string program, std::vector<std::string> args = {},
                                     SubprocessOptions options = {});
/// Starts `/bin/sh -c command`. Quote what comes from outside.
Coro<Process> create_subprocess_shell(std::string command, SubprocessOptions options = {});

namespace detail {

using AnySubprocessFactory = Function<std::shared_ptr<SubprocessProtocol>()>;
using AnySubprocess = Connected<SubprocessTransport, SubprocessProtocol>;

Coro<AnySubprocess> subprocess_exec(EventLoop& loop, AnySubprocessFactory factory, std::string program,
                                    std::vector<std::string> args, const SubprocessOptions& options);
Coro<AnySubprocess> subprocess_shell(EventLoop& loop, AnySubprocessFactory factory, std::string command,
                                     const SubprocessOptions& options);

}  // namespace detail

template <class Factory, class Options>
auto EventLoop::subprocess_exec(Factory factory, std::string program, std::vector<std::string> args,
                                Options options) {
    static_assert(detail::check_factory<SubprocessProtocol, Factory>());
    return detail::with_protocol_type<SubprocessTransport, detail::ProtocolOf<Factory>>(
        detail::subprocess_exec(*this, std::move(factory), std::move(program), std::move(args), options));
}

template <class Factory, class Options>
auto EventLoop::subprocess_shell(Factory factory, std::string command, Options options) {
    static_assert(detail::check_factory<SubprocessProtocol, Factory>());
    return detail::with_protocol_type<SubprocessTransport, detail::ProtocolOf<Factory>>(
        detail::subprocess_shell(*this, std::move(factory), std::move(command), options));
}

template <>
inline constexpr bool detail::DESCRIBED<Process> = true;

}  // namespace coil
