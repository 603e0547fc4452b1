#pragma once

// A child process in a loop.
//
//     connecting   the pipes get their transports; what happens meanwhile is told after connection_made
//     running      close(): the child is killed, the pipes are closed
//     exited       the return code is known; wait() returns
//     finished     and all pipes are at their ends: connection_lost was called
//
// The loop keeps it until it is finished, whatever handles exist.

#include <any>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/detail/wait_queue.hpp"
#include "coil/futures.hpp"
#include "coil/streams.hpp"
#include "coil/subprocess.hpp"
#include "coil/transports.hpp"
#include "io/queued_watch.hpp"
#include "io/spawn.hpp"

namespace coil::detail {

inline StreamReader no_reader() { return StreamReader(std::shared_ptr<StreamReaderState>()); }
inline StreamWriter no_writer() { return StreamWriter(std::shared_ptr<StreamWriterState>()); }

class ProcessTransport final : public SubprocessTransport,
                               public std::enable_shared_from_this<ProcessTransport>,
                               private LoopResource {
  public:
    /// Starts the child. `protocol` null: its pipes are streams.
    static Coro<std::shared_ptr<ProcessTransport>> start(EventLoop& loop, SpawnPlan plan,
                                                         std::shared_ptr<SubprocessProtocol> protocol);
    ~ProcessTransport() override;

    std::any get_extra_info(std::string_view) const override { return {}; }
    bool is_closing() const override { return closed_; }
    void close() override;
    int get_pid() const override { return pid_; }
    std::optional<int> get_returncode() const override { return returncode_; }
    std::shared_ptr<Transport> get_pipe_transport(int fd) const override;
    void send_signal(int signal_number) override;
    void terminate() override;
    void kill() override;

    /// Gives the return code. The object must outlive the call.
    Coro<int> wait();
    bool has_pipe(std::size_t fd) const noexcept { return pipes_[fd].wanted; }
    StreamWriter stdin_stream() const { return stdin_; }
    StreamReader output_stream(int fd) const { return outputs_[static_cast<std::size_t>(fd - 1)]; }

    /// For start().
    ProcessTransport(EventLoop& loop, int pid, Socket pidfd, const std::array<Socket, 3>& ends,
                     std::shared_ptr<SubprocessProtocol> protocol, std::size_t limit);

  private:
    class PipeProtocol;
    struct Pipe {
        bool wanted = false;
        bool connected = false;
        bool lost = false;
        std::shared_ptr<Transport> transport;
    };
    struct ExitWatch final : QueuedWatch {
        ExitWatch(EventLoop& loop, int pidfd, ProcessTransport& transport)
            : QueuedWatch(loop, pidfd, &ExitWatch::run), owner(transport) {}
        static void run(Runnable& self, How how);
        ProcessTransport& owner;
    };

    static Coro<> connect_pipes(std::shared_ptr<ProcessTransport> me, std::array<Socket, 3> ends,
                                Future<> ready);
    static Coro<> connect_each(std::shared_ptr<ProcessTransport> me, std::array<Socket, 3> ends);
    Coro<> connect(int fd, Socket end);

    /// Calls the protocol in the next turn, or behind connection_made.
    void tell(std::function<void(SubprocessProtocol&)> what);
    void pipe_lost(int fd, std::exception_ptr error);
    void watch();
    void reap();
    void kill_and_reap() noexcept;
    void exited(int returncode);
    void close_when_over();
    void try_finish();
    void finished();
    void loop_closed() noexcept override;

    EventLoop& loop_;
    int pid_;
    Socket pidfd_;
    ExitWatch watch_;
    std::shared_ptr<ProcessTransport> keeps_itself_;  // until it is finished
    std::shared_ptr<SubprocessProtocol> protocol_;
    std::array<Pipe, 3> pipes_;
    StreamWriter stdin_ = no_writer();
    std::array<StreamReader, 2> outputs_{no_reader(), no_reader()};  // 1 and 2
    std::optional<std::vector<std::function<void(SubprocessProtocol&)>>> untold_{std::in_place};
    WaitQueue waiters_;
    std::optional<int> returncode_;
    bool streams_;
    bool connecting_ = true;
    bool closed_ = false;
    bool finishing_ = false;
};

}  // namespace coil::detail
