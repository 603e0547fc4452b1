#include "io/dns.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>

#include "base/c_text.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "sync/worker_pool.hpp"

namespace coil {

namespace detail {

namespace {

[[noreturn]] void throw_gai_error(int error, int system_error) {
    if (error == EAI_SYSTEM) throw_os_error(system_error);
    throw GaiError(error);
}

std::vector<ResolvedAddress> look_up(const std::string& host, const std::string& service,
                                     const AddressOptions& options) {
    addrinfo hints{};
    hints.ai_family = options.family;
    hints.ai_socktype = options.type;
    hints.ai_protocol = options.proto;
    hints.ai_flags = options.flags;
    addrinfo* list = nullptr;
    int error = ::getaddrinfo(host.empty() ? nullptr : detail::c_text(host),
                              service.empty() ? nullptr : detail::c_text(service), &hints, &list);
    if (error != 0) throw_gai_error(error, errno);
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
    std::vector<ResolvedAddress> found;
    for (addrinfo* entry = list; entry; entry = entry->ai_next) {
        found.push_back({Address(entry->ai_addr, entry->ai_addrlen), entry->ai_socktype, entry->ai_protocol,
                         entry->ai_canonname ? entry->ai_canonname : ""});
    }
    if (found.empty()) throw OSError("getaddrinfo() returned empty list");
    return found;
}

/// In debug mode, in a thread of the pool.
std::vector<ResolvedAddress> look_up_and_log(const std::string& host, const std::string& service,
                                             const AddressOptions& options, Duration slow) {
    std::string what = fmt::format("address info {}:{}, family={}, type={}, proto={}, flags={}", host,
                                   service, options.family, options.type, options.proto, options.flags);
    log(LogLevel::DEBUG_, "Get " + what);
    auto began = std::chrono::steady_clock::now();
    std::vector<ResolvedAddress> found = look_up(host, service, options);
    auto took = std::chrono::steady_clock::now() - began;
    std::string addresses;
    for (const ResolvedAddress& entry : found)
        addresses += (addresses.empty() ? "" : ", ") + to_string(entry.address.public_form());
    log(took >= slow ? LogLevel::INFO : LogLevel::DEBUG_,
        fmt::format("Getting {} took {:.3f}ms: {}", what,
                    std::chrono::duration<double, std::milli>(took).count(), addresses));
    return found;
}

/// What needs no resolver: a numeric host and port, for one kind of socket.
std::optional<ResolvedAddress> already_resolved(const std::string& host, const std::string& service,
                                                const AddressOptions& options) {
    bool stream = options.type == SOCK_STREAM;
    if (!stream && options.type != SOCK_DGRAM) return std::nullopt;
    int proto = stream ? IPPROTO_TCP : IPPROTO_UDP;
    if ((options.proto != 0 && options.proto != proto) || host.empty() || (options.flags & AI_CANONNAME))
        return std::nullopt;
    int port = 0;
    const char* end = service.data() + service.size();
    if (!service.empty()) {
        auto [stop, error] = std::from_chars(service.data(), end, port);
        if (error != std::errc() || stop != end || port < 0 || port > 65535) return std::nullopt;
    }
    auto address = numeric_address(host, port, options.family);
    if (!address) return std::nullopt;
    return ResolvedAddress{*address, options.type, proto, {}};
}

std::pair<std::string, std::string> look_up_names(const Address& address, int flags) {
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> service{};
    int error = ::getnameinfo(address.data(), address.length, host.data(), host.size(), service.data(),
                              service.size(), flags);
    if (error != 0) throw_gai_error(error, errno);
    return {host.data(), service.data()};
}

Coro<std::vector<AddressInfo>> get_addresses(EventLoop& loop, std::string host, Service port,
                                             AddressOptions options) {
    auto found = co_await resolve(loop, std::move(host), std::move(port), options);
    std::vector<AddressInfo> infos;
    infos.reserve(found.size());
    for (ResolvedAddress& entry : found) {
        infos.push_back({entry.address.family(), entry.type, entry.proto, std::move(entry.canonname),
                         entry.address.public_form()});
    }
    co_return infos;
}

Coro<std::pair<std::string, std::string>> get_names(SocketAddress address, int flags) {
    auto kernel = numeric_address(address.host, address.port);
    if (!kernel) throw ValueError("getnameinfo() needs a numeric address, not '" + address.host + "'");
    Address full = kernel_address(address, kernel->family());
    co_return co_await in_worker(
        "getnameinfo('" + address.host + "')", [full, flags] { return look_up_names(full, flags); },
        LateError::DROP);
}

}  // namespace

Coro<std::vector<ResolvedAddress>> resolve(EventLoop& loop, std::string host, Service port,
                                           AddressOptions options) {
    loop.check_closed();
    if (auto address = already_resolved(host, port.text(), options)) {
        std::vector<ResolvedAddress> one;
        one.push_back(std::move(*address));
        co_return one;
    }
    std::string what = "getaddrinfo('" + host + "')";
    std::optional<Duration> slow;
    if (loop.get_debug()) slow = loop.slow_callback_duration;
    auto work = [host = std::move(host), service = port.text(), options, slow] {
        return slow ? look_up_and_log(host, service, options, *slow) : look_up(host, service, options);
    };
    co_return co_await in_worker(std::move(what), std::move(work), LateError::DROP);
}

Coro<std::vector<Address>> resolve_stream(EventLoop& loop, std::string host, int port, int family, int flags,
                                          bool passive) {
    check_port(port);
    AddressOptions options{
        .family = family, .type = SOCK_STREAM, .flags = flags | (passive ? AI_PASSIVE : 0)};
    auto found = co_await resolve(loop, std::move(host), port, options);
    std::vector<Address> addresses;
    for (const ResolvedAddress& entry : found) addresses.push_back(entry.address);
    co_return addresses;
}

}  // namespace detail

Coro<std::vector<AddressInfo>> EventLoop::getaddrinfo(std::string host, Service port,
                                                      AddressOptions options) {
    return detail::get_addresses(*this, std::move(host), std::move(port), options);
}

Coro<std::pair<std::string, std::string>> EventLoop::getnameinfo(SocketAddress address, int flags) {
    return detail::get_names(std::move(address), flags);
}

}  // namespace coil
