#include "coil/subprocess.hpp"

#include <fmt/format.h>

#include "coil/combinators.hpp"
#include "coil/exceptions.hpp"
#include "io/process_transport.hpp"

namespace coil {

namespace detail {

namespace {

std::vector<std::string> with_program(std::string program, std::vector<std::string> args) {
    args.insert(args.begin(), std::move(program));
    return args;
}

SpawnPlan exec_plan(std::string program, std::vector<std::string> args, const SubprocessOptions& options,
                    Stdio unsaid) {
    return SpawnPlan(with_program(std::move(program), std::move(args)), options, unsaid);
}

SpawnPlan shell_plan(std::string command, const SubprocessOptions& options, Stdio unsaid) {
    std::vector<std::string> argv;
    argv.emplace_back(options.executable.empty() ? "/bin/sh" : options.executable);
    argv.emplace_back("-c");
    argv.push_back(std::move(command));
    return SpawnPlan(std::move(argv), options, unsaid);
}

Coro<Process> start_with_streams(SpawnPlan plan) {
    std::shared_ptr<SubprocessProtocol> none;
    auto transport = co_await ProcessTransport::start(get_running_loop(), std::move(plan), std::move(none));
    co_return Process(std::move(transport));
}

Coro<AnySubprocess> start_with_protocol(EventLoop& loop, AnySubprocessFactory factory, SpawnPlan plan) {
    auto protocol = factory();
    if (!protocol) throw ValueError("a transport needs a protocol");
    auto transport = co_await ProcessTransport::start(loop, std::move(plan), protocol);
    co_return AnySubprocess{std::move(transport), std::move(protocol)};
}

// ---- communicate

Coro<> feed(StreamWriter writer, std::optional<std::string> input) {
    try {
        if (input) writer.write(*input);
        co_await writer.drain();
    } catch (const BrokenPipeError&) {  // the child does not read it: that is its business
    } catch (const ConnectionResetError&) {
    }
    writer.close();
}

Coro<std::string> read_all(std::shared_ptr<ProcessTransport> process, int fd) {
    std::string all = co_await process->output_stream(fd).read();
    process->get_pipe_transport(fd)->close();
    co_return all;
}

Coro<std::optional<std::string>> read_pipe(std::shared_ptr<ProcessTransport> process, int fd) {
    if (!process->has_pipe(static_cast<std::size_t>(fd))) co_return std::nullopt;
    co_return co_await read_all(process, fd);
}

Coro<> feed_pipe(std::shared_ptr<ProcessTransport> process, std::optional<std::string> input) {
    if (process->has_pipe(0)) co_await feed(process->stdin_stream(), std::move(input));
}

Coro<std::pair<std::optional<std::string>, std::optional<std::string>>> communicate(
    std::shared_ptr<ProcessTransport> process, std::optional<std::string> input) {
    if (input && !process->has_pipe(0))
        throw ValueError("communicate(): there is input, but the child's standard input is no pipe");
    auto all = gather(feed_pipe(process, std::move(input)), read_pipe(process, 1), read_pipe(process, 2));
    auto [fed, output, error] = co_await std::move(all);
    co_await process->wait();
    co_return std::pair(std::move(output), std::move(error));
}

Coro<int> wait_for_end(std::shared_ptr<ProcessTransport> process) { co_return co_await process->wait(); }

}  // namespace

Coro<AnySubprocess> subprocess_exec(EventLoop& loop, AnySubprocessFactory factory, std::string program,
                                    std::vector<std::string> args, const SubprocessOptions& options) {
    return start_with_protocol(loop, std::move(factory),
                               exec_plan(std::move(program), std::move(args), options, PIPE));
}

Coro<AnySubprocess> subprocess_shell(EventLoop& loop, AnySubprocessFactory factory, std::string command,
                                     const SubprocessOptions& options) {
    return start_with_protocol(loop, std::move(factory), shell_plan(std::move(command), options, PIPE));
}

}  // namespace detail

Coro<Process> create_subprocess_exec(std::string program, std::vector<std::string> args,
                                     SubprocessOptions options) {
    return detail::start_with_streams(
        detail::exec_plan(std::move(program), std::move(args), options, INHERIT));
}

Coro<Process> create_subprocess_shell(std::string command, SubprocessOptions options) {
    return detail::start_with_streams(detail::shell_plan(std::move(command), options, INHERIT));
}

Process::Process(std::shared_ptr<detail::ProcessTransport> transport) noexcept
    : transport_(std::move(transport)) {}

std::string Process::describe() const {
    auto code = returncode();
    return fmt::format("<Process {} {}>", pid(), code ? fmt::format("ended with {}", *code) : "running");
}
int Process::pid() const noexcept { return transport_->get_pid(); }
std::optional<int> Process::returncode() const noexcept { return transport_->get_returncode(); }
Coro<int> Process::wait() { return detail::wait_for_end(transport_); }
Coro<std::pair<std::optional<std::string>, std::optional<std::string>>> Process::communicate(
    std::optional<std::string> input) {
    return detail::communicate(transport_, std::move(input));
}
void Process::send_signal(int signal_number) { transport_->send_signal(signal_number); }
void Process::terminate() { transport_->terminate(); }
void Process::kill() { transport_->kill(); }
StreamWriter Process::stdin_() const { return transport_->stdin_stream(); }
StreamReader Process::stdout_() const { return transport_->output_stream(1); }
StreamReader Process::stderr_() const { return transport_->output_stream(2); }

}  // namespace coil
