#pragma once

// Streams: connections for coroutines.
//
//     auto [reader, writer] = co_await open_connection("localhost", 80);
//     writer.write("…");
//     co_await writer.drain();
//
// StreamReader and StreamWriter are shared handles. One task at a time may read; any number may drain.

#include <any>
#include <concepts>
#include <cstddef>
#include <exception>
#include <initializer_list>
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
#include "coil/detail/stream_waits.hpp"
#include "coil/detail/wait_queue.hpp"
#include "coil/futures.hpp"
#include "coil/fwd.hpp"
#include "coil/protocols.hpp"
#include "coil/server.hpp"
#include "coil/ssl.hpp"
#include "coil/transports.hpp"

namespace coil {

class StreamReader {
  public:
    static constexpr std::size_t DEFAULT_LIMIT = 64 * 1024;

    /// A reader without a transport, fed by hand. `limit`, in bytes, bounds lines; ValueError for zero.
    explicit StreamReader(std::size_t limit = DEFAULT_LIMIT);

    /// Up to `n` bytes, at least one; empty at the end of the stream. -1: all until the end.
    detail::StreamRead read(std::ptrdiff_t n = -1);
    /// The same into the caller's memory, without a copy; gives the number of bytes, 0 at the end. The memory must outlive the call.
    /// It is written to only when the call returns: tasks whose other awaits do not need the bytes may share it.
    detail::StreamReadInto read_into(std::span<std::byte> buffer);
    /// One line with its '\n'; what is left at the end of the stream. ValueError if it is longer than the limit: that data is
    /// dropped.
    Coro<std::string> readline();
    /// Exactly `n` bytes; IncompleteReadError if the stream ends before.
    detail::StreamRead readexactly(std::size_t n);
    /// Through the separator. IncompleteReadError if the stream ends before; LimitOverrunError, leaving the data, if it is not
    /// within the limit; ValueError for an empty separator. Of several separators the one that ends first counts.
    Coro<std::string> readuntil(std::string separator = "\n");
    Coro<std::string> readuntil(std::vector<std::string> separators);
    /// The next line, or nothing at the end: `while (auto line = co_await reader.next())`.
    Coro<std::optional<std::string>> next();

    /// In one line, see format.hpp.
    std::string describe() const;
    /// True if the stream has ended and everything was read.
    bool at_eof() const;
    /// False: of no stream, as `Process::stdout_()` without a pipe. Every other call is a RuntimeError then.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    // ---- the feeding side
    void feed_data(std::string_view data);
    void feed_eof();
    /// Thrown by the current and later reads.
    void set_exception(std::exception_ptr error);
    std::exception_ptr exception() const;
    void set_transport(std::shared_ptr<Transport> transport);

    /// For coil's own layers.
    explicit StreamReader(std::shared_ptr<detail::StreamReaderState> state) noexcept
        : state_(std::move(state)) {}
    const std::shared_ptr<detail::StreamReaderState>& state() const {
        if (!state_) throw_no_stream("StreamReader");
        return state_;
    }

  private:
    friend class StreamWriter;
    [[noreturn]] static void throw_no_stream(const char* which);

    std::shared_ptr<detail::StreamReaderState> state_;
};

class StreamReaderProtocol;

/// When the last handle goes, an open connection is closed, with a warning.
class StreamWriter {
  public:
    /// Sends at once what the kernel takes, buffers the rest. Follow it with `co_await drain()`.
    void write(std::string_view data);
    void write(std::span<const std::byte> data);
    void writelines(std::span<const std::string_view> parts);
    void writelines(std::initializer_list<std::string_view> parts) {
        writelines(std::span(parts.begin(), parts.size()));
    }
    /// Waits while the write buffer is above its mark. Throws what broke the connection; ConnectionResetError after its loss.
    detail::Drain drain() { return detail::Drain(state()); }
    /// In one line, see format.hpp.
    std::string describe() const;
    bool can_write_eof() const;
    /// Ends the writing side; the peer reads the end, and may still answer.
    void write_eof();
    void close();
    bool is_closing() const;
    /// Until the connection is closed; throws what broke it.
    Coro<> wait_closed();
    /// Puts TLS over the connection, once all is written. The side that the server accepted is the server's side of TLS too.
    /// RuntimeError if bytes have arrived that nobody has read: they came unprotected.
    Coro<> start_tls(SslContext context, StartTlsOptions options = {});
    /// See `BaseTransport::get_extra_info`.
    std::any get_extra_info(std::string_view name) const;
    std::shared_ptr<Transport> transport() const;
    /// False: of no stream, as `Process::stdin_()` without a pipe. Every other call is a RuntimeError then.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// A writer for a transport that was made by hand, as for a pipe. `reader`: its error is thrown by drain().
    StreamWriter(std::shared_ptr<Transport> transport, std::shared_ptr<StreamReaderProtocol> protocol,
                 std::optional<StreamReader> reader = std::nullopt);

    /// For coil's own layers.
    explicit StreamWriter(std::shared_ptr<detail::StreamWriterState> state) noexcept
        : state_(std::move(state)) {}

  private:
    static Coro<> upgrade(std::shared_ptr<detail::StreamWriterState> state,
                          Coro<std::shared_ptr<Transport>> upgrading);
    const std::shared_ptr<detail::StreamWriterState>& state() const {
        if (!state_) StreamReader::throw_no_stream("StreamWriter");
        return state_;
    }

    std::shared_ptr<detail::StreamWriterState> state_;
};

using ClientConnected = Function<Coro<>(StreamReader, StreamWriter)>;

/// The protocol between a transport and its streams, for `loop.create_connection`, `connect_read_pipe` and the like:
/// `[&] { return std::make_shared<StreamReaderProtocol>(reader); }`.
class StreamReaderProtocol final : public BufferedProtocol,
                                   public std::enable_shared_from_this<StreamReaderProtocol> {
  public:
    /// Feeds the reader. With a callback, of a server's: it is called when the connection is made, as a task.
    explicit StreamReaderProtocol(StreamReader reader, ClientConnected callback = nullptr);
    StreamReaderProtocol(StreamReader reader, std::shared_ptr<const ClientConnected> callback);
    ~StreamReaderProtocol() override;

    void connection_made(std::shared_ptr<Transport> transport) override;
    void connection_lost(std::exception_ptr error) override;
    std::span<std::byte> get_buffer(std::size_t hint) override;
    void buffer_updated(std::size_t size) override;
    bool eof_received() override;
    void pause_writing() override { paused_ = true; }
    void resume_writing() override;

  private:
    friend class detail::Drain;
    friend class StreamWriter;

    // Static: they keep the protocol from the call on, not from their first step.
    static Coro<> drain(std::shared_ptr<StreamReaderProtocol> self);
    static Coro<> wait_closed(std::shared_ptr<StreamReaderProtocol> self);
    Coro<> call_back(StreamWriter writer);
    void called_back(Task<> task);
    void replace_transport(std::shared_ptr<Transport> transport);

    std::shared_ptr<detail::StreamReaderState> reader_;
    std::shared_ptr<const ClientConnected> callback_;
    std::shared_ptr<Transport> transport_;
    std::shared_ptr<detail::StreamWriterState>
        writer_;  // of a server's: the connection outlives its callback
    detail::WaitQueue drainers_;
    detail::WaitQueue closers_;
    std::exception_ptr error_;
    bool paused_ = false;
    bool lost_ = false;
    bool over_tls_ = false;
};

struct Streams {
    StreamReader reader;
    StreamWriter writer;
};

namespace detail {

Coro<Server> start_stream_server(ClientConnected callback, std::vector<std::string> hosts, int port,
                                 const ServerOptions& options);
Coro<Server> start_stream_server(ClientConnected callback, Socket socket, const ServerOptions& options);
Coro<Server> start_unix_stream_server(ClientConnected callback, std::string path,
                                      const UnixServerOptions& options);

template <class F>
ClientConnected client_callback(F client_connected) {
    if constexpr (std::same_as<std::invoke_result_t<F&, StreamReader, StreamWriter>, Coro<>>) {
        return client_connected;
    } else {
        return
            [call = std::move(client_connected)](StreamReader reader, StreamWriter writer) mutable -> Coro<> {
                call(std::move(reader), std::move(writer));
                co_return;
            };
    }
}

}  // namespace detail

/// Connects by TCP, to each of the host's addresses in turn. OSError (ConnectionRefusedError, GaiError, …) if none works.
Coro<Streams> open_connection(std::string host, int port, ConnectionOptions options = {});
/// Over a socket that is connected already; takes it.
Coro<Streams> open_connection(Socket socket, ConnectionOptions options = {});
Coro<Streams> open_unix_connection(std::string path, UnixConnectionOptions options = {});

/// Serves TCP on every address of the host (empty: all interfaces; port 0: any), or of several hosts. The callback is called per
/// connection with a reader and a writer; a coroutine becomes a task, whose failure is reported and closes the connection.
template <class F>
    requires std::invocable<F&, StreamReader, StreamWriter>
Coro<Server> start_server(F client_connected, std::string host, int port, ServerOptions options = {}) {
    std::vector<std::string> hosts;
    hosts.push_back(std::move(host));
    return detail::start_stream_server(detail::client_callback(std::move(client_connected)), std::move(hosts),
                                       port, options);
}
template <class F>
    requires std::invocable<F&, StreamReader, StreamWriter>
Coro<Server> start_server(F client_connected, std::vector<std::string> hosts, int port,
                          ServerOptions options = {}) {
    return detail::start_stream_server(detail::client_callback(std::move(client_connected)), std::move(hosts),
                                       port, options);
}
/// On a bound stream socket; takes it.
template <class F>
    requires std::invocable<F&, StreamReader, StreamWriter>
Coro<Server> start_server(F client_connected, Socket socket, ServerOptions options = {}) {
    return detail::start_stream_server(detail::client_callback(std::move(client_connected)),
                                       std::move(socket), options);
}
/// The same on a Unix socket. What an earlier server has left at the path is removed.
template <class F>
    requires std::invocable<F&, StreamReader, StreamWriter>
Coro<Server> start_unix_server(F client_connected, std::string path, UnixServerOptions options = {}) {
    return detail::start_unix_stream_server(detail::client_callback(std::move(client_connected)),
                                            std::move(path), options);
}

template <>
inline constexpr bool detail::DESCRIBED<StreamReader> = true;
template <>
inline constexpr bool detail::DESCRIBED<StreamWriter> = true;

}  // namespace coil
