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
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coil/coroutines.hpp"
#include "coil/fwd.hpp"
#include "coil/server.hpp"
#include "coil/transports.hpp"

namespace coil {

namespace detail {
class StreamReaderState;
class StreamProtocol;
struct StreamWriterState;
}  // namespace detail

class StreamReader {
  public:
    static constexpr std::size_t DEFAULT_LIMIT = 64 * 1024;

    /// A reader without a transport, fed by hand. `limit`, in bytes, bounds lines; ValueError for zero.
    explicit StreamReader(std::size_t limit = DEFAULT_LIMIT);

    /// Up to `n` bytes, at least one; empty at the end of the stream. -1: all until the end.
    Coro<std::string> read(std::ptrdiff_t n = -1);
    /// The same into the caller's memory, which must outlive the call; gives the number of bytes, 0 at the end.
    Coro<std::size_t> read_into(std::span<std::byte> buffer);
    /// One line with its '\n'; what is left at the end of the stream. ValueError if it is longer than the limit: that data is
    /// dropped.
    Coro<std::string> readline();
    /// Exactly `n` bytes; IncompleteReadError if the stream ends before.
    Coro<std::string> readexactly(std::size_t n);
    /// Through the separator. IncompleteReadError if the stream ends before; LimitOverrunError, leaving the data, if it is not
    /// within the limit; ValueError for an empty separator. Of several separators the one that ends first counts.
    Coro<std::string> readuntil(std::string separator = "\n");
    Coro<std::string> readuntil(std::vector<std::string> separators);
    /// The next line, or nothing at the end: `while (auto line = co_await reader.next())`.
    Coro<std::optional<std::string>> next();

    /// True if the stream has ended and everything was read.
    bool at_eof() const;

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
    const std::shared_ptr<detail::StreamReaderState>& state() const noexcept { return state_; }

  private:
    std::shared_ptr<detail::StreamReaderState> state_;
};

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
    Coro<> drain();
    bool can_write_eof() const;
    /// Ends the writing side; the peer reads the end, and may still answer.
    void write_eof();
    void close();
    bool is_closing() const;
    /// Until the connection is closed; throws what broke it.
    Coro<> wait_closed();
    /// See `BaseTransport::get_extra_info`.
    std::any get_extra_info(std::string_view name) const;
    std::shared_ptr<Transport> transport() const;

    /// For coil's own layers.
    explicit StreamWriter(std::shared_ptr<detail::StreamWriterState> state) noexcept
        : state_(std::move(state)) {}

  private:
    std::shared_ptr<detail::StreamWriterState> state_;
};

struct Streams {
    StreamReader reader;
    StreamWriter writer;
};

struct ConnectionOptions {
    std::size_t limit = StreamReader::DEFAULT_LIMIT;  // bytes, of a line
};

struct ServerOptions {
    std::size_t limit = StreamReader::DEFAULT_LIMIT;
    int backlog = 100;
    bool reuse_address = true;
    bool reuse_port = false;
    bool start_serving = true;
};

/// Connects by TCP, to each of the host's addresses in turn. OSError (ConnectionRefusedError, GaiError, …) if none works.
Coro<Streams> open_connection(std::string host, int port, ConnectionOptions options = {});

using ClientConnected = std::function<Coro<>(StreamReader, StreamWriter)>;

namespace detail {
Coro<Server> start_stream_server(ClientConnected callback, std::string host, int port, ServerOptions options);
}

/// Serves TCP on every address of the host (empty: all interfaces; port 0: any). The callback is called per connection with a
/// reader and a writer; a coroutine becomes a task, whose failure is reported and closes the connection.
template <class F>
    requires std::invocable<F&, StreamReader, StreamWriter>
Coro<Server> start_server(F client_connected, std::string host, int port, ServerOptions options = {}) {
    if constexpr (std::same_as<std::invoke_result_t<F&, StreamReader, StreamWriter>, Coro<>>) {
        return detail::start_stream_server(std::move(client_connected), std::move(host), port, options);
    } else {
        return detail::start_stream_server(
            [call = std::move(client_connected)](StreamReader reader, StreamWriter writer) mutable -> Coro<> {
                call(std::move(reader), std::move(writer));
                co_return;
            },
            std::move(host), port, options);
    }
}

}  // namespace coil
