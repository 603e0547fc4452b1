#include "io/tls_transport.hpp"

#include <any>

#include <fmt/format.h>

#include "coil/exceptions.hpp"
#include "io/tls_protocol.hpp"

namespace coil::detail {

std::any TlsTransport::get_extra_info(std::string_view name) const {
    if (name == "sslcontext") return object_ ? object_->context() : context_;
    if (name == "compression") return {};
    if (object_) {
        if (name == "ssl_object") return *object_;
        if (name == "cipher") {
            auto cipher = object_->cipher();
            return cipher ? std::any(*cipher) : std::any();
        }
        if (name == "peercert") {
            auto certificate = object_->getpeercert();
            return certificate ? std::any(*certificate) : std::any();
        }
    }
    auto protocol = protocol_.lock();
    if (protocol && protocol->raw_) return protocol->raw_->get_extra_info(name);
    return {};
}

void TlsTransport::close() {
    if (std::exchange(closed_, true)) return;
    if (auto protocol = protocol_.lock()) protocol->start_shutdown();
}

void TlsTransport::abort() {
    closed_ = true;
    if (auto protocol = protocol_.lock()) protocol->abort(nullptr);
}

void TlsTransport::set_protocol(std::shared_ptr<StreamingProtocol> app) {
    if (auto protocol = protocol_.lock()) protocol->set_app(std::move(app));
}

std::shared_ptr<StreamingProtocol> TlsTransport::get_protocol() const {
    auto protocol = protocol_.lock();
    return protocol ? protocol->app_ : nullptr;
}

bool TlsTransport::is_reading() const {
    auto protocol = protocol_.lock();
    return protocol && !closed_ && !protocol->app_reading_paused_;
}

void TlsTransport::pause_reading() {
    if (auto protocol = protocol_.lock()) protocol->app_reading_paused_ = true;
}

void TlsTransport::resume_reading() {
    if (auto protocol = protocol_.lock()) protocol->resume_app_reading();
}

void TlsTransport::write(std::string_view data) { writelines(std::span(&data, 1)); }

void TlsTransport::writelines(std::span<const std::string_view> parts) {
    if (auto protocol = protocol_.lock()) protocol->write(parts);
}

void TlsTransport::write_eof() { throw RuntimeError("a TLS connection has no write_eof(): use close()"); }

std::size_t TlsTransport::get_write_buffer_size() const {
    auto protocol = protocol_.lock();
    return protocol ? protocol->unsent() : 0;
}

std::pair<std::size_t, std::size_t> TlsTransport::get_write_buffer_limits() const {
    auto protocol = protocol_.lock();
    if (!protocol) return {0, 0};
    return {protocol->low_, protocol->high_};
}

void TlsTransport::set_write_buffer_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) {
    constexpr std::size_t DEFAULT_HIGH = 512 * 1024;
    std::size_t new_high = high ? *high : low ? 4 * *low : DEFAULT_HIGH;
    std::size_t new_low = low ? *low : new_high / 4;
    if (new_high < new_low)
        throw ValueError(fmt::format("high ({}) must be >= low ({}) must be >= 0", new_high, new_low));
    auto protocol = protocol_.lock();
    if (!protocol) return;
    protocol->high_ = new_high;
    protocol->low_ = new_low;
    protocol->control_app_writing();
}

}  // namespace coil::detail
