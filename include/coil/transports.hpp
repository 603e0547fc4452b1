#pragma once

// Transports: one connection each, made by the loop, driven by a protocol. All are used from the loop's thread only.

#include <any>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "coil/detail/described.hpp"
#include "coil/fwd.hpp"
#include "coil/protocols.hpp"

namespace coil {

class BaseTransport {
  public:
    virtual ~BaseTransport() = default;

    /// By name; empty for a name that does not apply:
    ///   "socket"                TransportSocket; of one that is asked for after connection_lost the descriptor is -1
    ///   "sockname", "peername"  SocketAddress; without TLS both stay when the connection has ended
    ///   "pipe"                  int, the descriptor of a pipe transport
    ///   over TLS: "sslcontext" SslContext, "ssl_object" SslObject, "cipher" SslCipher, "peercert" SslCertificate,
    ///             "compression" (empty: never used)
    virtual std::any get_extra_info(std::string_view name) const = 0;
    virtual bool is_closing() const = 0;
    /// In one line, see format.hpp.
    std::string describe() const;
    /// Reads no more, writes what is buffered, then calls `connection_lost(nullptr)`. Idempotent.
    virtual void close() = 0;
};

class ReadTransport : public virtual BaseTransport {
  public:
    virtual bool is_reading() const = 0;
    /// Data waits in the kernel until `resume_reading()`. Both are idempotent.
    virtual void pause_reading() = 0;
    virtual void resume_reading() = 0;
};

class WriteTransport : public virtual BaseTransport {
  public:
    /// Sends at once what the kernel takes and buffers the rest; never waits. RuntimeError after `write_eof()`.
    virtual void write(std::string_view data) = 0;
    /// As one write.
    virtual void writelines(std::span<const std::string_view> parts) = 0;
    void writelines(std::initializer_list<std::string_view> parts) {
        writelines(std::span(parts.begin(), parts.size()));
    }
    /// Shuts the writing side once the buffer is written; reading goes on.
    virtual void write_eof() = 0;
    virtual bool can_write_eof() const = 0;
    /// Closes at once; what is buffered is lost.
    virtual void abort() = 0;

    virtual std::size_t get_write_buffer_size() const = 0;
    /// {low, high}, in bytes.
    virtual std::pair<std::size_t, std::size_t> get_write_buffer_limits() const = 0;
    /// Default: high 64 KiB, low a quarter of it. ValueError unless high >= low.
    virtual void set_write_buffer_limits(std::optional<std::size_t> high = {},
                                         std::optional<std::size_t> low = {}) = 0;
};

/// A stream of bytes each way. Pipes are one-way: the other direction's calls throw RuntimeError.
class Transport : public ReadTransport,
                  public WriteTransport,
                  public std::enable_shared_from_this<Transport> {
  public:
    /// The new protocol gets no connection_made.
    virtual void set_protocol(std::shared_ptr<StreamingProtocol> protocol) = 0;
    virtual std::shared_ptr<StreamingProtocol> get_protocol() const = 0;
};

/// Messages each way.
class DatagramTransport : public virtual BaseTransport {
  public:
    /// Sends at once or queues; never waits. Without an address: to the one that the endpoint is connected to. ValueError for
    /// another address on a connected endpoint.
    virtual void sendto(std::string_view data) = 0;
    virtual void sendto(std::string_view data, const SocketAddress& address) = 0;
    virtual void abort() = 0;

    /// Bytes of the queued messages, and 8 for each.
    virtual std::size_t get_write_buffer_size() const = 0;
    virtual std::pair<std::size_t, std::size_t> get_write_buffer_limits() const = 0;
    virtual void set_write_buffer_limits(std::optional<std::size_t> high = {},
                                         std::optional<std::size_t> low = {}) = 0;
    virtual void set_protocol(std::shared_ptr<DatagramProtocol> protocol) = 0;
    virtual std::shared_ptr<DatagramProtocol> get_protocol() const = 0;
};

/// A child process and the parent's ends of its pipes.
class SubprocessTransport : public virtual BaseTransport {
  public:
    virtual int get_pid() const = 0;
    /// Nothing while it runs; -N after signal N.
    virtual std::optional<int> get_returncode() const = 0;
    /// Of a standard stream, 0 to 2; null if it is no pipe.
    virtual std::shared_ptr<Transport> get_pipe_transport(int fd) const = 0;
    /// ProcessLookupError once it is known to be gone.
    virtual void send_signal(int signal_number) = 0;
    /// SIGTERM.
    virtual void terminate() = 0;
    /// SIGKILL. `close()` does the same, and closes the pipes.
    virtual void kill() = 0;
};

/// What `create_connection` and its relatives give: `auto [transport, protocol] = co_await …`.
template <class T, class P>
struct Connected {
    std::shared_ptr<T> transport;
    std::shared_ptr<P> protocol;
};

template <std::derived_from<BaseTransport> T>
inline constexpr bool detail::DESCRIBED<T> = true;

}  // namespace coil
