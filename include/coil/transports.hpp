#pragma once

// Transports: one connection each, made by the loop, driven by a Protocol.

#include <any>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "coil/fwd.hpp"
#include "coil/protocols.hpp"

namespace coil {

class BaseTransport {
  public:
    virtual ~BaseTransport() = default;

    /// "peername" and "sockname" (SocketAddress), "socket" (TransportSocket). Empty for a name that does not apply.
    virtual std::any get_extra_info(std::string_view name) const = 0;
    virtual bool is_closing() const = 0;
    /// Reads no more, writes what is buffered, then calls `connection_lost(nullptr)`. Idempotent.
    virtual void close() = 0;
    virtual void set_protocol(std::shared_ptr<Protocol> protocol) = 0;
    virtual std::shared_ptr<Protocol> get_protocol() const = 0;
};

class Transport : public BaseTransport, public std::enable_shared_from_this<Transport> {
  public:
    virtual bool is_reading() const = 0;
    /// Data waits in the kernel until `resume_reading()`. Both are idempotent.
    virtual void pause_reading() = 0;
    virtual void resume_reading() = 0;

    /// Sends at once what the kernel takes and buffers the rest; never waits. RuntimeError after `write_eof()`.
    virtual void write(std::string_view data) = 0;
    /// As one write.
    virtual void writelines(std::span<const std::string_view> parts) = 0;
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

}  // namespace coil
