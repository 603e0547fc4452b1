#pragma once

// What a program writes to over TLS. It refers to the TlsProtocol as long as the connection is there.

#include <any>
#include <memory>
#include <optional>

#include "coil/ssl.hpp"
#include "coil/transports.hpp"

namespace coil::detail {

class TlsProtocol;

class TlsTransport final : public Transport {
  public:
    TlsTransport(std::weak_ptr<TlsProtocol> protocol, SslContext context)
        : protocol_(std::move(protocol)), context_(std::move(context)) {}

    std::any get_extra_info(std::string_view name) const override;
    bool is_closing() const override { return closed_; }
    void close() override;
    void set_protocol(std::shared_ptr<StreamingProtocol> protocol) override;
    std::shared_ptr<StreamingProtocol> get_protocol() const override;
    bool is_reading() const override;
    void pause_reading() override;
    void resume_reading() override;
    void write(std::string_view data) override;
    void writelines(std::span<const std::string_view> parts) override;
    /// RuntimeError: TLS has no end of one direction that all peers understand.
    void write_eof() override;
    bool can_write_eof() const override { return false; }
    void abort() override;
    std::size_t get_write_buffer_size() const override;
    std::pair<std::size_t, std::size_t> get_write_buffer_limits() const override;
    void set_write_buffer_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) override;

  private:
    friend class TlsProtocol;
    std::weak_ptr<TlsProtocol> protocol_;
    SslContext context_;
    std::optional<SslObject> object_;  // after the handshake
    bool closed_ = false;
};

}  // namespace coil::detail
