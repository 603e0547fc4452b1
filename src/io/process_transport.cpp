#include "io/process_transport.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "coil/pipes.hpp"
#include "coil/tasks.hpp"
#include "io/pidfd.hpp"
#include "io/queue_wait.hpp"
#include "io/stream_transport.hpp"
#include "loop/debug_log.hpp"

namespace coil {

void SubprocessProtocol::connection_made(std::shared_ptr<SubprocessTransport>) {}
void SubprocessProtocol::pipe_data_received(int, std::string_view) {}
void SubprocessProtocol::pipe_connection_lost(int, std::exception_ptr) {}

namespace detail {

namespace {

int unknown_status(int pid) {
    constexpr int UNKNOWN = 255;
    log(LogLevel::WARNING,
        fmt::format(
            "the exit status of child process {} was read by somebody else: will report returncode {}", pid,
            UNKNOWN));
    return UNKNOWN;
}

/// The child's return code, taken from the kernel; nothing while it runs.
std::optional<int> take_status(int pid, int pidfd) {
    siginfo_t info{};
    int result = 0;
    do {
        result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
    } while (result < 0 && errno == EINTR);
    if (result < 0) return unknown_status(pid);
    if (info.si_pid == 0) return std::nullopt;
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

}  // namespace

// ---- the pipes

/// Between a pipe's transport and the process: what is read goes to a stream, or to the process's protocol.
class ProcessTransport::PipeProtocol final : public BufferedProtocol {
  public:
    PipeProtocol(std::shared_ptr<ProcessTransport> process, int fd) : process_(std::move(process)), fd_(fd) {
        if (!process_->streams_) return;
        if (fd == 0) unread_ = StreamReader();
        stream_ = std::make_shared<StreamReaderProtocol>(
            fd == 0 ? unread_ : process_->outputs_[static_cast<std::size_t>(fd - 1)]);
    }
    const std::shared_ptr<StreamReaderProtocol>& stream() const noexcept { return stream_; }

    void connection_made(std::shared_ptr<Transport> transport) override {
        if (stream_) stream_->connection_made(std::move(transport));
    }
    std::span<std::byte> get_buffer(std::size_t) override { return shared_read_buffer(); }
    void buffer_updated(std::size_t size) override {
        if (stream_) return stream_->buffer_updated(size);
        std::string data(reinterpret_cast<const char*>(shared_read_buffer().data()), size);
        process_->tell([fd = fd_, data = std::move(data)](SubprocessProtocol& protocol) {
            protocol.pipe_data_received(fd, data);
        });
    }
    bool eof_received() override { return stream_ && stream_->eof_received(); }
    void pause_writing() override {
        stream_ ? stream_->pause_writing() : process_->protocol_->pause_writing();
    }
    void resume_writing() override {
        stream_ ? stream_->resume_writing() : process_->protocol_->resume_writing();
    }
    void connection_lost(std::exception_ptr error) override {
        if (stream_) stream_->connection_lost(error);
        std::exchange(process_, nullptr)->pipe_lost(fd_, std::move(error));
    }

  private:
    std::shared_ptr<ProcessTransport> process_;
    std::shared_ptr<StreamReaderProtocol> stream_;
    StreamReader unread_ = no_reader();  // of the child's standard input: nothing comes back from there
    int fd_;
};

Coro<> ProcessTransport::connect(int fd, Socket end) {
    auto me = shared_from_this();
    auto protocol = std::make_shared<PipeProtocol>(me, fd);
    auto factory = [protocol] { return protocol; };
    auto connecting = fd == 0 ? connect_write_pipe(loop_, std::move(factory), end.detach())
                              : connect_read_pipe(loop_, std::move(factory), end.detach());
    auto connected = co_await std::move(connecting);
    Pipe& pipe = pipes_[static_cast<std::size_t>(fd)];
    pipe.connected = true;
    pipe.transport = std::move(connected.transport);
    if (streams_ && fd == 0) stdin_ = StreamWriter(pipe.transport, protocol->stream());
    if (closed_) pipe.transport->close();
}

Coro<> ProcessTransport::connect_each(std::shared_ptr<ProcessTransport> me, std::array<Socket, 3> ends) {
    for (int fd = 0; fd < 3; ++fd) {
        Socket& end = ends[static_cast<std::size_t>(fd)];
        if (end) co_await me->connect(fd, std::move(end));
    }
}

Coro<> ProcessTransport::connect_pipes(std::shared_ptr<ProcessTransport> me, std::array<Socket, 3> ends,
                                       Future<> ready) {
    auto outcome = co_await try_await(connect_each(me, std::move(ends)));
    me->connecting_ = false;
    if (outcome) {
        me->loop_.call_soon([me] {
            if (me->protocol_) me->protocol_->connection_made(me);
        });
        auto untold = std::move(*me->untold_);
        me->untold_.reset();
        for (auto& what : untold) me->tell(std::move(what));
        if (!ready.done()) ready.set_result();
    } else {
        me->untold_.reset();
        if (!ready.done())
            outcome.cancelled() ? void(ready.cancel()) : ready.set_exception(outcome.exception());
    }
    me->try_finish();
}

// ---- its life

ProcessTransport::ProcessTransport(EventLoop& loop, int pid, Socket pidfd, const std::array<Socket, 3>& ends,
                                   std::shared_ptr<SubprocessProtocol> protocol, std::size_t limit)
    : loop_(loop),
      pid_(pid),
      pidfd_(std::move(pidfd)),
      watch_(loop, pidfd_.fileno(), *this),
      protocol_(std::move(protocol)),
      streams_(!protocol_) {
    for (std::size_t i = 0; i < 3; ++i) pipes_[i].wanted = static_cast<bool>(ends[i]);
    for (std::size_t i = 0; i < 2; ++i) {
        if (streams_ && pipes_[i + 1].wanted) outputs_[i] = StreamReader(limit);
    }
    loop.core().resources.push_back(*this);
}

ProcessTransport::~ProcessTransport() {
    if (linked()) unlink();
}

void ProcessTransport::watch() {
    if (!pidfd_) {  // with SIGCHLD ignored the kernel does not keep the status
        loop_.call_soon([me = shared_from_this()] { me->exited(unknown_status(me->pid_)); });
        return;
    }
    try {
        watch_.start();
    } catch (...) {
        kill_and_reap();
        throw;
    }
}

Coro<std::shared_ptr<ProcessTransport>> ProcessTransport::start(
    EventLoop& loop, SpawnPlan plan, std::shared_ptr<SubprocessProtocol> protocol) {
    loop.check_closed();
    SpawnedChild child = plan.start();
    debug_log(loop, LogLevel::INFO,
              [&] { return fmt::format("execute {}: process {}", plan.describe(), child.pid); });
    auto me = std::make_shared<ProcessTransport>(loop, child.pid, std::move(child.pidfd), child.pipes,
                                                 std::move(protocol), plan.limit());
    me->watch();
    me->keeps_itself_ = me;
    Future<> ready = loop.create_future();
    Task<> connecting = loop.create_task(connect_pipes(me, std::move(child.pipes), ready));
    auto outcome = co_await try_await(ready);
    if (!outcome) {
        me->close();
        co_await me->wait();
        outcome.value();
    }
    co_return me;
}

void ProcessTransport::tell(std::function<void(SubprocessProtocol&)> what) {
    if (!protocol_) return;
    if (untold_) return untold_->push_back(std::move(what));
    loop_.call_soon([me = shared_from_this(), what = std::move(what)] {
        if (me->protocol_) what(*me->protocol_);
    });
}

void ProcessTransport::pipe_lost(int fd, std::exception_ptr error) {
    pipes_[static_cast<std::size_t>(fd)].lost = true;
    tell([fd, error = std::move(error)](SubprocessProtocol& protocol) {
        protocol.pipe_connection_lost(fd, error);
    });
    close_when_over();
    try_finish();
}

void ProcessTransport::ExitWatch::run(Runnable& self, How how) {
    auto& watch = static_cast<ExitWatch&>(self);
    watch.dequeued();
    if (how == How::DISCARD || !watch.started()) return;
    auto keep = watch.owner.shared_from_this();
    keep->reap();
}

void ProcessTransport::reap() {
    auto status = take_status(pid_, pidfd_.fileno());
    if (!status) return watch_.forget(READABLE);
    watch_.stop();
    pidfd_.close();
    loop_.call_soon([me = shared_from_this(), code = *status] { me->exited(code); });
}

void ProcessTransport::exited(int returncode) {
    returncode_ = returncode;
    debug_log(loop_, LogLevel::INFO,
              [&] { return fmt::format("process {} exited with return code {}", pid_, returncode); });
    tell([](SubprocessProtocol& protocol) { protocol.process_exited(); });
    waiters_.wake_all();
    close_when_over();
    try_finish();
}

/// Of streams: nothing can be written to a child that has ended, once its output has ended, too.
void ProcessTransport::close_when_over() {
    if (!streams_ || !returncode_) return;
    for (std::size_t fd = 1; fd < 3; ++fd) {
        if (pipes_[fd].wanted && !pipes_[fd].lost) return;
    }
    close();
}

void ProcessTransport::try_finish() {
    if (!returncode_ || connecting_ || finishing_) return;
    for (const Pipe& pipe : pipes_) {
        if (pipe.connected && !pipe.lost) return;
    }
    finishing_ = true;
    loop_.call_soon([me = shared_from_this()] { me->finished(); });
}

void ProcessTransport::finished() {
    if (linked()) unlink();
    auto keep = std::move(keeps_itself_);
    auto protocol = std::move(protocol_);
    if (protocol) protocol->connection_lost(nullptr);
}

void ProcessTransport::close() {
    if (std::exchange(closed_, true)) return;
    for (Pipe& pipe : pipes_) {
        if (pipe.transport) pipe.transport->close();
    }
    if (!pidfd_) return;
    debug_log(loop_, LogLevel::WARNING,
              [&] { return fmt::format("Close running child process: kill process {}", pid_); });
    signal_pidfd(pidfd_.fileno(), SIGKILL);
}

void ProcessTransport::kill_and_reap() noexcept {
    signal_pidfd(pidfd_.fileno(), SIGKILL);
    // Soon: nothing but a system call that cannot be interrupted holds up SIGKILL.
    constexpr int LONGEST_MS = 5000;
    pollfd ended{pidfd_.fileno(), POLLIN, 0};
    while (::poll(&ended, 1, LONGEST_MS) < 0 && errno == EINTR) {
    }
    returncode_ = take_status(pid_, pidfd_.fileno());
    pidfd_.close();
}

void ProcessTransport::loop_closed() noexcept {
    auto keep = std::move(keeps_itself_);
    closed_ = true;
    watch_.stop();
    if (pidfd_) {
        log(LogLevel::WARNING,
            fmt::format("child process {} is killed: its loop was closed before it ended", pid_));
        kill_and_reap();
    }
    stdin_ = no_writer();
    auto protocol = std::move(protocol_);
}

// ---- its interface

std::shared_ptr<Transport> ProcessTransport::get_pipe_transport(int fd) const {
    if (fd < 0 || fd > 2) return nullptr;
    return pipes_[static_cast<std::size_t>(fd)].transport;
}

void ProcessTransport::send_signal(int signal_number) {
    if (returncode_) throw_os_error(ESRCH);
    // It may have ended without our knowledge: then its number is not used again yet, and nothing happens.
    if (pidfd_ && signal_pidfd(pidfd_.fileno(), signal_number) < 0 && errno != ESRCH) throw_os_error(errno);
}

void ProcessTransport::terminate() { send_signal(SIGTERM); }
void ProcessTransport::kill() { send_signal(SIGKILL); }

Coro<int> ProcessTransport::wait() {
    if (!returncode_) {
        if (!keeps_itself_) throw RuntimeError("Event loop is closed");
        QueueWait wait(waiters_, "Process.wait");
        co_await std::move(wait);
    }
    co_return *returncode_;
}

}  // namespace detail

}  // namespace coil
