#pragma once

// The event loop: callbacks, timers, descriptors, signals, and which loop is current.
//
// An EventLoop belongs to the thread that runs it. Only `call_soon_threadsafe` (and what says so) may be called from
// other threads.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "coil/detail/bytes.hpp"
#include "coil/detail/callback.hpp"
#include "coil/detail/described.hpp"
#include "coil/detail/function.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/detail/parameters.hpp"
#include "coil/exceptions.hpp"
#include "coil/fwd.hpp"

namespace coil {

/// How the loop talks to the kernel. AUTO: what `COIL_BACKEND` says, else io_uring where the kernel allows it, else
/// epoll. A backend asked for by name that cannot be had is an OSError.
enum class Backend { AUTO, URING, EPOLL };

/// A callback that waits to be called. Copies share it; dropping all of them does not cancel.
class Handle {
  public:
    Handle() noexcept = default;

    /// The callback will not run, even if its turn has begun. No effect after it ran, but for `cancelled()`.
    void cancel() noexcept;
    bool cancelled() const noexcept { return state_ && state_->cancelled(); }
    /// The context that the callback runs in.
    Context get_context() const { return state_->get_context(); }
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }
    /// In one line, see format.hpp.
    std::string describe() const;
    friend bool operator==(const Handle&, const Handle&) = default;

    /// For coil's own layers.
    explicit Handle(detail::Ref<detail::CallbackBase> state) noexcept : state_(std::move(state)) {}
    const detail::Ref<detail::CallbackBase>& state() const noexcept { return state_; }

  protected:
    detail::Ref<detail::CallbackBase> state_;
};

class TimerHandle : public Handle {
  public:
    TimerHandle() noexcept = default;

    /// The deadline, on the loop's clock.
    TimePoint when() const noexcept { return when_; }
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For coil's own layers.
    TimerHandle(detail::Ref<detail::CallbackBase> state, TimePoint when) noexcept
        : Handle(std::move(state)), when_(when) {}

  private:
    TimePoint when_{};
};

/// Further facts for an exception handler, by asyncio's keys: "task", "transport", … In the order of the keys.
class ExceptionDetails {
  public:
    using value_type = std::pair<std::string, std::string>;

    ExceptionDetails() noexcept = default;
    ExceptionDetails(std::initializer_list<value_type> facts) {
        for (const auto& [key, text] : facts) emplace(key, text);
    }

    /// A key that is there already keeps what it has.
    void emplace(std::string_view key, std::string text);
    /// LookupError for a key that is not there.
    const std::string& at(std::string_view key) const;
    bool contains(std::string_view key) const noexcept { return find(key) != end(); }
    std::vector<value_type>::const_iterator find(std::string_view key) const noexcept;
    std::vector<value_type>::const_iterator begin() const noexcept { return facts_.begin(); }
    std::vector<value_type>::const_iterator end() const noexcept { return facts_.end(); }
    std::size_t size() const noexcept { return facts_.size(); }
    bool empty() const noexcept { return facts_.empty(); }

  private:
    std::vector<value_type> facts_;
};

/// What an exception handler is told. Written by coil, or by hand: `loop.call_exception_handler({.message = "…"})`.
struct ExceptionContext {
    std::string message{};
    std::exception_ptr exception{};
    Handle handle{};  // the callback at fault, if it was one
    ExceptionDetails details{};
    detail::FutureBase* future_state = nullptr;  // use future() and task()

    /// The future or task at fault.
    std::optional<Future<>> future() const;
    std::optional<Task<>> task() const;
};

using ExceptionHandler = Function<void(EventLoop&, const ExceptionContext&)>;

/// Makes the task for a coroutine: see `EventLoop::set_task_factory`.
using TaskFactory = Function<Task<>(EventLoop&, AnyCoro, const TaskOptions&)>;

struct TaskOptions {
    std::string_view name{};            // copied; empty: "Task-N"
    const Context* context = nullptr;   // run in this context; null: in a copy of the current one
    std::optional<bool> eager_start{};  // run to the first suspension inside create_task
};

struct SendfileOptions {
    bool fallback = true;  // read and write where the kernel cannot do it; else SendfileNotAvailableError
};

/// What to look for, by the numbers of <netdb.h>: AF_, SOCK_, IPPROTO_, AI_. Zero: anything.
struct AddressOptions {
    int family = 0;
    int type = 0;
    int proto = 0;
    int flags = 0;
};

class EventLoop {
  public:
    explicit EventLoop(Backend backend = Backend::AUTO);
    /// For other pollers, as the one on virtual time.
    explicit EventLoop(std::unique_ptr<detail::Poller> poller);
    /// Closes the loop if that was forgotten, and says so in the log. Must not run.
    virtual ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    // ---- running

    /// Runs until `stop()`. RuntimeError if this or another loop runs in this thread, or if the loop is closed.
    void run_forever();
    /// Runs until the awaitable (a Coro, Future or Task) is done; gives its result or throws its exception.
    template <class A>
    decltype(auto) run_until_complete(A&& awaitable);
    /// Ends `run_forever` after the current batch. Before a run: the run makes one turn, without waiting.
    void stop();
    bool is_running() const noexcept { return core_.running.load(std::memory_order_relaxed); }
    bool is_closed() const noexcept { return core_.closed.load(std::memory_order_relaxed); }
    /// Drops what is queued and scheduled, gives back the kernel's resources. RuntimeError while running; idempotent.
    void close();
    /// Closes all asynchronous generators that were begun and not finished.
    Coro<> shutdown_asyncgens();

    // ---- callbacks

    /// Calls `f(args…)` in the next turn, in order of registration. `f` and `args` are decay-copied.
    template <class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    Handle call_soon(F&& f, Args&&... args) {
        check_usable();
        return queue(callback(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    Handle call_soon(detail::InContext context, F&& f, Args&&... args) {
        check_usable();
        return queue(given(context, callback(std::forward<F>(f), std::forward<Args>(args)...)));
    }
    /// The same, from any thread; wakes the loop. The handle may be used from any thread too.
    template <class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    Handle call_soon_threadsafe(F&& f, Args&&... args) {
        return post(callback(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    Handle call_soon_threadsafe(detail::InContext context, F&& f, Args&&... args) {
        return post(given(context, callback(std::forward<F>(f), std::forward<Args>(args)...)));
    }
    /// Calls `f(args…)` once `delay` has passed; zero or less: in the next turn, behind what is ready.
    template <class Rep, class Period, class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    TimerHandle call_later(std::chrono::duration<Rep, Period> delay, F&& f, Args&&... args) {
        return call_at(detail::deadline_after(time(), delay), std::forward<F>(f),
                       std::forward<Args>(args)...);
    }
    template <class Rep, class Period, class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    TimerHandle call_later(std::chrono::duration<Rep, Period> delay, detail::InContext context, F&& f,
                           Args&&... args) {
        return call_at(detail::deadline_after(time(), delay), context, std::forward<F>(f),
                       std::forward<Args>(args)...);
    }
    /// The same at a point on the loop's clock.
    template <class D, class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    TimerHandle call_at(std::chrono::time_point<std::chrono::steady_clock, D> when, F&& f, Args&&... args) {
        check_usable();
        return schedule(detail::to_time_point(when),
                        callback(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class D, class F, class... Args>
        requires detail::OnceCallable<F, Args...>
    TimerHandle call_at(std::chrono::time_point<std::chrono::steady_clock, D> when, detail::InContext context,
                        F&& f, Args&&... args) {
        check_usable();
        return schedule(detail::to_time_point(when),
                        given(context, callback(std::forward<F>(f), std::forward<Args>(args)...)));
    }
    /// The loop's clock.
    TimePoint time() const;

    // ---- futures and tasks (core/)

    template <class T = void>
    Future<T> create_future(std::source_location where = std::source_location::current());
    template <class T>
    Task<T> create_task(Coro<T> coro, TaskOptions options = {},
                        std::source_location where = std::source_location::current());
    /// Every creation of a task goes through the factory; an empty one restores the default.
    void set_task_factory(TaskFactory factory) { core_.task_factory = std::move(factory); }
    const TaskFactory& get_task_factory() const noexcept { return core_.task_factory; }

    // ---- executors (sync/executors.cpp, <coil/executors.hpp>)

    /// Calls `f(args…)` in an executor, null: the loop's default one, a ThreadPoolExecutor made on demand. Gives a Future; when
    /// that is cancelled, a call that has not begun never does. The executor must outlive the call.
    template <class F, class... Args>
    auto run_in_executor(Executor* executor, F&& f, Args&&... args);
    void set_default_executor(std::shared_ptr<ThreadPoolExecutor> executor);
    /// Waits, in another thread, until the default executor's calls are over; gives up with a warning when time is up. From then on
    /// the default executor takes no calls.
    Coro<> shutdown_default_executor(std::optional<Duration> timeout = {});

    // ---- descriptors

    /// Calls `f(args…)` once a turn while `fd` is readable. Replaces the descriptor's former reader.
    template <class F, class... Args>
        requires detail::RepeatCallable<F, Args...>
    void add_reader(FileDescriptor fd, F&& f, Args&&... args) {
        check_usable();
        watch(fd.fileno(), true, repeating(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
        requires detail::RepeatCallable<F, Args...>
    void add_writer(FileDescriptor fd, F&& f, Args&&... args) {
        check_usable();
        watch(fd.fileno(), false, repeating(std::forward<F>(f), std::forward<Args>(args)...));
    }
    /// True if there was one. Call it before closing the descriptor.
    bool remove_reader(FileDescriptor fd);
    bool remove_writer(FileDescriptor fd);

    // ---- sockets without a transport (io/sockets.cpp, <coil/sockets.hpp>). They are non-blocking, and the caller's. One task may
    // receive and one may send at a time; RuntimeError for a descriptor that a transport owns. A cancelled call has consumed
    // nothing, but for sock_sendall, which may have sent a part.

    /// Up to `size` bytes; none at the end of the stream.
    Coro<std::string> sock_recv(FileDescriptor socket, std::size_t size);
    /// Gives the number of bytes. The buffer must outlive the call.
    Coro<std::size_t> sock_recv_into(FileDescriptor socket, std::span<std::byte> buffer);
    Coro<std::pair<std::string, SocketAddress>> sock_recvfrom(FileDescriptor socket, std::size_t size);
    /// `size`: at most so many bytes; 0: as the buffer has.
    Coro<std::pair<std::size_t, SocketAddress>> sock_recvfrom_into(FileDescriptor socket,
                                                                   std::span<std::byte> buffer,
                                                                   std::size_t size = 0);
    Coro<> sock_sendall(FileDescriptor socket, detail::Bytes data);
    Coro<std::size_t> sock_sendto(FileDescriptor socket, detail::Bytes data, SocketAddress address);
    /// Resolves the host if it is a name.
    Coro<> sock_connect(FileDescriptor socket, SocketAddress address);
    /// The connection and the peer's address.
    Coro<std::pair<Socket, SocketAddress>> sock_accept(FileDescriptor socket);
    /// Sends a file's bytes, from `offset`, `count` of them or all; gives how many. The file's position is then behind them.
    /// ValueError for a negative offset, a count below 1, or a socket that is no stream.
    Coro<std::size_t> sock_sendfile(FileDescriptor socket, FileDescriptor file, std::int64_t offset = 0,
                                    std::optional<std::int64_t> count = {}, SendfileOptions options = {});

    // ---- names (io/dns.cpp, <coil/dns.hpp>). Looked up in another thread; GaiError where that fails.

    Coro<std::vector<AddressInfo>> getaddrinfo(std::string host, Service port, AddressOptions options = {});
    /// The host's and the service's names. `flags`: NI_ numbers.
    Coro<std::pair<std::string, std::string>> getnameinfo(SocketAddress address, int flags = 0);

    // ---- connections (io/connections.cpp, <coil/connections.hpp>). `factory()` gives a shared_ptr to a Protocol or a
    // BufferedProtocol, P; what is awaited gives Connected<Transport, P>: `auto [transport, protocol] = co_await …`.

    /// Connects by TCP, with `.ssl` then TLS. OSError if no address of the host works.
    template <class Factory, class Options = ConnectionOptions>
    auto create_connection(Factory factory, std::string host, int port, Options options = {});
    /// Over a socket that is connected already; takes it.
    template <class Factory, class Options = ConnectionOptions>
    auto create_connection(Factory factory, Socket socket, Options options = {});
    template <class Factory, class Options = UnixConnectionOptions>
    auto create_unix_connection(Factory factory, std::string path, Options options = {});
    /// The server's side of a connection that was accepted elsewhere; takes the socket.
    template <class Factory, class Options = AcceptedSocketOptions>
    auto connect_accepted_socket(Factory factory, Socket socket, Options options = {});
    /// Puts TLS over a connection. Gives the transport to use from now on; the protocol keeps its place behind it. Null if the
    /// transport was closing.
    Coro<std::shared_ptr<Transport>> start_tls(std::shared_ptr<Transport> transport,
                                               std::shared_ptr<StreamingProtocol> protocol,
                                               SslContext context);
    Coro<std::shared_ptr<Transport>> start_tls(std::shared_ptr<Transport> transport,
                                               std::shared_ptr<StreamingProtocol> protocol,
                                               SslContext context, StartTlsOptions options);
    /// Sends a file's bytes behind what the transport has buffered; nothing else may be written meanwhile. See sock_sendfile.
    /// RuntimeError if the transport is closing.
    Coro<std::size_t> sendfile(std::shared_ptr<Transport> transport, FileDescriptor file,
                               std::int64_t offset = 0, std::optional<std::int64_t> count = {},
                               SendfileOptions options = {});

    // ---- servers (io/servers.cpp, <coil/server.hpp>). Each gives a Server.

    /// Listens on every address of the host (empty: all interfaces; port 0: any), or of several hosts.
    template <class Factory, class Options = ServerOptions>
    auto create_server(Factory factory, std::string host, int port, Options options = {});
    template <class Factory, class Options = ServerOptions>
    auto create_server(Factory factory, std::vector<std::string> hosts, int port, Options options = {});
    /// On a bound stream socket; takes it.
    template <class Factory, class Options = ServerOptions>
    auto create_server(Factory factory, Socket socket, Options options = {});
    template <class Factory, class Options = UnixServerOptions>
    auto create_unix_server(Factory factory, std::string path, Options options = {});

    // ---- datagrams and pipes (io/, <coil/datagrams.hpp>, <coil/pipes.hpp>)

    /// An endpoint that is bound, connected or both. Gives Connected<DatagramTransport, P>.
    template <class Factory, class Options = DatagramOptions>
    auto create_datagram_endpoint(Factory factory, Options options = {});
    template <class Factory>
    auto create_datagram_endpoint(Factory factory, Socket socket);
    /// The reading, or writing, end of a pipe, a FIFO, a character device or a socket; takes the descriptor and closes it at the
    /// end. ValueError for anything else.
    template <class Factory>
    auto connect_read_pipe(Factory factory, int fd);
    template <class Factory>
    auto connect_write_pipe(Factory factory, int fd);

    // ---- processes (io/subprocess.cpp, <coil/subprocess.hpp>). `factory()` gives a shared_ptr to a SubprocessProtocol, P; what is
    // awaited gives Connected<SubprocessTransport, P>. Standard streams that no option speaks of are pipes.

    template <class Factory, class Options = SubprocessOptions>
    auto subprocess_exec(Factory factory, std::string program, std::vector<std::string> args = {},
                         Options options = {});
    template <class Factory, class Options = SubprocessOptions>
    auto subprocess_shell(Factory factory, std::string command, Options options = {});

    // ---- signals (io/)

    /// Calls `f(args…)` in the loop after the signal came. Main thread only. Replaces the signal's former handler.
    template <class F, class... Args>
        requires detail::RepeatCallable<F, Args...>
    void add_signal_handler(int signal_number, F&& f, Args&&... args) {
        check_usable();
        add_signal_callback(signal_number, repeating(std::forward<F>(f), std::forward<Args>(args)...));
    }
    /// True if there was one; the signal gets back the action that it had before.
    bool remove_signal_handler(int signal_number);

    // ---- errors

    /// Called for every error that nobody can catch; an empty one restores the default.
    void set_exception_handler(ExceptionHandler handler) { handler_ = std::move(handler); }
    const ExceptionHandler& get_exception_handler() const noexcept { return handler_; }
    /// Logs the message, the details and the exception.
    virtual void default_exception_handler(const ExceptionContext& context);
    void call_exception_handler(const ExceptionContext& context);

    // ---- debugging

    bool get_debug() const noexcept { return core_.debug; }
    void set_debug(bool debug) noexcept {
        core_.debug = debug;
        core_.watched = debug || core_.tracer;
    }
    /// Debug mode warns of callbacks, and of steps of tasks, that run for this long or longer, in real time; a trace marks them.
    Duration slow_callback_duration = std::chrono::milliseconds(100);

    /// Writes what happens from the next turn on into a file, for Perfetto (ui.perfetto.dev), Chrome and `coil trace summary`: a track
    /// for each task with its runs and waits, one for the loop, wake-ups as arrows. In real time, also on virtual time. OSError if
    /// the file cannot be opened, RuntimeError while the loop is traced already. A forked child does not go on with it.
    ///
    /// `COIL_TRACE=path` in the environment does the same when a loop runs for the first time; the second loop of the process
    /// writes to `path.2`, and so on. In a forked child the number of its process comes first: `path.1234`, `path.1234.2`.
    void start_tracing(const std::string& path);
    /// Ends the trace, as closing the loop does. No effect without one.
    void stop_tracing();
    bool is_tracing() const noexcept;

    /// "uring", "epoll" or "virtual".
    std::string_view backend() const noexcept;
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For coil's own layers.
    detail::LoopCore& core() noexcept { return core_; }
    void check_closed() const;
    void check_can_run() const;

  private:
    friend class detail::CallbackBase;

    template <class Result>
    static constexpr void check_no_coroutine() {
        static_assert(!detail::IS_CORO<std::decay_t<Result>>,
                      "a coroutine function is no callback: call it and give the Coro to create_task()");
    }
    template <class F, class... Args>
    detail::Ref<detail::CallbackBase> callback(F&& f, Args&&... args) {
        check_no_coroutine<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>>();
        return detail::make_callback(*this, false, std::forward<F>(f), std::forward<Args>(args)...);
    }
    template <class F, class... Args>
    detail::Ref<detail::CallbackBase> repeating(F&& f, Args&&... args) {
        check_no_coroutine<std::invoke_result_t<std::decay_t<F>&, std::decay_t<Args>&...>>();
        return detail::make_callback(*this, true, std::forward<F>(f), std::forward<Args>(args)...);
    }
    static detail::Ref<detail::CallbackBase> given(detail::InContext& context,
                                                   detail::Ref<detail::CallbackBase> callback) {
        callback->share_context(std::move(context.state));
        return callback;
    }

    void check_usable() const {
        if (is_closed() || (is_running() && detail::thread_state.loop != this)) misused();
    }
    [[noreturn]] void misused() const;
    Handle queue(detail::Ref<detail::CallbackBase> callback) {
        if (core_.debug) [[unlikely]]
            callback->keep_creation_place();
        core_.ready.push(*callback);
        callback->retain();
        return Handle(std::move(callback));
    }
    Handle post(detail::Ref<detail::CallbackBase> callback);
    TimerHandle schedule(TimePoint when, detail::Ref<detail::CallbackBase> callback);
    void watch(int fd, bool reader, detail::Ref<detail::CallbackBase> callback);
    bool unwatch(int fd, bool reader);
    void add_signal_callback(int signal_number, detail::Ref<detail::CallbackBase> callback);

    void run_turns();
    void run_once();
    void run_once_watched();
    void fill_queue();
    void poll();
    void queue_due_timers();
    void drop_everything();

    detail::LoopCore core_;
    ExceptionHandler handler_;
};

/// The loop that runs in this thread; RuntimeError "no running event loop" without one.
EventLoop& get_running_loop();
/// The running loop, else the one set for this thread, else RuntimeError.
EventLoop& get_event_loop();
/// Null clears. The loop stays the caller's.
void set_event_loop(EventLoop* loop);
std::unique_ptr<EventLoop> new_event_loop();

/// A loop on this backend, for `loop_factory`. OSError where the kernel does not have it.
std::unique_ptr<EventLoop> uring_loop();
std::unique_ptr<EventLoop> epoll_loop();

/// What makes loops and keeps the current one per thread. asyncio has deprecated policies: prefer a `loop_factory`.
class EventLoopPolicy {
  public:
    virtual ~EventLoopPolicy() = default;
    virtual std::unique_ptr<EventLoop> new_event_loop();
    virtual EventLoop& get_event_loop();
    virtual void set_event_loop(EventLoop* loop);
};

EventLoopPolicy& get_event_loop_policy();
/// Null restores the default. Set it before threads use loops.
void set_event_loop_policy(std::shared_ptr<EventLoopPolicy> policy);

template <>
inline constexpr bool detail::DESCRIBED<Handle> = true;
template <>
inline constexpr bool detail::DESCRIBED<TimerHandle> = true;
template <>
inline constexpr bool detail::DESCRIBED<EventLoop> = true;

}  // namespace coil
