#pragma once

// Forward declarations and the two time types. Cheap: for headers that only name coil's types.

#include <chrono>

namespace coil {

/// Every duration of coil, in nanoseconds. Functions take it by value, so any `std::chrono` duration fits.
using Duration = std::chrono::nanoseconds;

/// A point on the loop's clock (`EventLoop::time()`): steady, unrelated to the time of day.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

/// The result of what has none, where a value is needed: in the tuple that `gather` gives.
struct None {
    friend constexpr bool operator==(None, None) noexcept { return true; }
};

class EventLoop;
class EventLoopPolicy;
class Handle;
class TimerHandle;
class Context;
class DoneCallback;
struct ExceptionContext;
struct TaskOptions;

template <class T = void>
class Coro;
template <class T = void>
class Future;
template <class T = void>
class Task;
template <class T = void>
class Outcome;
template <class T>
class AsyncGenerator;

namespace detail {
template <class T>
struct LayoutOf;  // a friend: what src/base/inspection.hpp tells of T
}

namespace concurrent {
template <class T = void>
class Future;
}
class Executor;
class ThreadPoolExecutor;

class AnyCoro;
class TaskGroup;
class Timeout;
class Runner;

class BaseProtocol;
class StreamingProtocol;
class Protocol;
class BufferedProtocol;
class DatagramProtocol;
class SubprocessProtocol;
class BaseTransport;
class Transport;
class DatagramTransport;
class SubprocessTransport;
class StreamReader;
class StreamWriter;
class Server;
class Process;
class Socket;
class TransportSocket;
class SslContext;
class SslSession;
struct SocketAddress;
struct AddressInfo;
struct ConnectionOptions;
struct UnixConnectionOptions;
struct AcceptedSocketOptions;
struct StartTlsOptions;
struct ServerOptions;
struct UnixServerOptions;
struct DatagramOptions;
struct SubprocessOptions;

class File;

}  // namespace coil
