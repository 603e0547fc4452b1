#include "io/connections.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "coil/combinators.hpp"
#include "coil/exceptions.hpp"
#include "coil/tasks.hpp"
#include "io/dns.hpp"
#include "io/fd_wait.hpp"
#include "io/file_sender.hpp"
#include "io/socket_transport.hpp"
#include "io/tls_protocol.hpp"
#include "io/tls_transport.hpp"
#include "loop/debug_log.hpp"

namespace coil {

namespace detail {

namespace {

void check_stream_socket(const Socket& socket) {
    if (!socket) throw ValueError("the socket is not open");
    if (socket.type() != SOCK_STREAM)
        throw ValueError(fmt::format("A Stream Socket was expected, got descriptor {}", socket.fileno()));
}

/// What the attempts to connect have failed with, in the order of the attempts' ends.
class ConnectErrors {
  public:
    void add(std::exception_ptr error) { errors_.push_back(std::move(error)); }

    [[noreturn]] void throw_all(bool as_group) const {
        if (as_group) throw ExceptionGroup("create_connection failed", errors_);
        std::vector<std::string> texts;
        for (const std::exception_ptr& error : errors_) {
            try {
                std::rethrow_exception(error);
            } catch (const OSError& e) {
                texts.emplace_back(e.what());
            }
        }
        bool alike =
            std::ranges::all_of(texts, [&](const std::string& text) { return text == texts.front(); });
        if (alike) std::rethrow_exception(errors_.front());
        throw OSError(fmt::format("Multiple exceptions: {}", fmt::join(texts, ", ")));
    }

  private:
    std::vector<std::exception_ptr> errors_;
};

/// For a TlsProtocol: ends the future.
std::function<void(std::exception_ptr)> setter_of(Future<> ready) {
    return [ready](std::exception_ptr error) mutable {
        if (ready.done()) return;
        if (error) {
            ready.set_exception(std::move(error));
        } else {
            ready.set_result();
        }
    };
}

/// Makes, binds and connects one socket. What fails goes to `errors`, and is thrown too.
Coro<Socket> connect_one(EventLoop& loop, Address address, const std::vector<Address>* local_addresses,
                         ConnectErrors& errors) {
    std::exception_ptr error;
    try {
        Socket socket(address.family(), SOCK_STREAM);
        if (local_addresses) {
            std::exception_ptr bind_error;
            bool bound = false;
            for (const Address& local : *local_addresses) {
                if (local.family() != address.family()) continue;
                if (::bind(socket.fileno(), local.data(), local.length) == 0) {
                    bound = true;
                    break;
                }
                int number = errno;
                if (bind_error) errors.add(bind_error);
                bind_error =
                    make_os_error(number, fmt::format("error while attempting to bind on address {}: {}",
                                                      to_string(local.public_form()), std::strerror(number)));
            }
            if (!bound && bind_error) std::rethrow_exception(bind_error);
            if (!bound)
                throw OSError(
                    fmt::format("no matching local address with family={} found", address.family()));
        }
        co_await connect_descriptor(loop, socket.fileno(), address);
        co_return socket;
    } catch (const OSError&) {
        error = std::current_exception();
    }
    errors.add(error);
    std::rethrow_exception(error);
}

/// The addresses with the families taking turns: `first` of the first family, then one each.
std::vector<Address> interleave_families(std::vector<Address> addresses, int first) {
    std::vector<std::vector<Address>> families;
    for (const Address& address : addresses) {
        auto same = std::ranges::find_if(
            families, [&](const auto& family) { return family.front().family() == address.family(); });
        if (same == families.end()) {
            families.emplace_back(1, address);
        } else {
            same->push_back(address);
        }
    }
    std::vector<Address> result;
    auto& leading = families.front();
    auto count = std::min(leading.size(), static_cast<std::size_t>(first > 1 ? first - 1 : 0));
    result.assign(leading.begin(), leading.begin() + static_cast<std::ptrdiff_t>(count));
    leading.erase(leading.begin(), leading.begin() + static_cast<std::ptrdiff_t>(count));
    for (std::size_t i = 0; result.size() < addresses.size(); ++i) {
        for (const auto& family : families) {
            if (i < family.size()) result.push_back(family[i]);
        }
    }
    return result;
}

/// RFC 8305, as asyncio has it: the next attempt begins after `delay`, or when the last one fails; the first success wins, the
/// others are cancelled and waited for.
Coro<std::optional<Socket>> race(EventLoop& loop, const std::vector<Address>& addresses,
                                 const std::vector<Address>* local_addresses, Duration delay,
                                 ConnectErrors& errors) {
    std::vector<Task<Socket>> running;
    std::optional<Socket> winner;
    std::exception_ptr stopped;
    for (std::size_t next = 0; !winner && (next < addresses.size() || !running.empty());) {
        if (next < addresses.size())
            running.push_back(loop.create_task(connect_one(loop, addresses[next++], local_addresses, errors),
                                               {}, std::source_location()));
        bool more = next < addresses.size();
        bool launch = false;
        while (!winner && !launch && !running.empty()) {
            WaitOptions options{.return_when = FIRST_COMPLETED};
            if (more) options.timeout = delay;
            std::size_t newest = running.size() - 1;
            Task<Socket> newest_task = running[newest];
            auto outcome = co_await try_await(wait(running, options));
            if (!outcome) {
                stopped = outcome.exception();
                break;
            }
            launch = more && (outcome.value().done.empty() || newest_task.done());
            for (Task<Socket>& task : outcome.value().done) {
                std::erase(running, task);
                if (!task.cancelled() && !task.exception() && !winner) winner = co_await std::move(task);
            }
        }
        if (stopped) break;
    }
    for (Task<Socket>& task : running) task.cancel();
    while (!running.empty()) {  // they refer to this frame: a second cancellation waits for them too
        auto ended = co_await try_await(wait(running, {}));
        if (!ended) stopped = ended.exception();
        std::erase_if(running, [](const Task<Socket>& task) {
            if (task.done() && !task.cancelled()) static_cast<void>(task.exception());
            return task.done();
        });
    }
    if (stopped) std::rethrow_exception(stopped);
    co_return winner;
}

}  // namespace

Coro<Socket> connect_stream(std::string host, int port, ConnectionOptions options, std::string local_host) {
    EventLoop& loop = get_running_loop();
    check_port(port);
    auto addresses =
        co_await resolve_stream(loop, std::move(host), port, options.family, options.flags, false);
    std::vector<Address> local_addresses;
    if (options.local_addr) {
        local_addresses = co_await resolve_stream(loop, std::move(local_host), options.local_addr.port(),
                                                  options.family, options.flags, false);
        for (Address& local : local_addresses)
            local.set_scope(options.local_addr.flowinfo(), options.local_addr.scope_id());
    }
    const auto* locals = options.local_addr ? &local_addresses : nullptr;
    if (options.happy_eyeballs_delay && !options.interleave) options.interleave = 1;
    if (options.interleave.value_or(0) > 0)
        addresses = interleave_families(std::move(addresses), *options.interleave);

    ConnectErrors errors;
    if (options.happy_eyeballs_delay) {
        auto winner = co_await race(loop, addresses, locals, *options.happy_eyeballs_delay, errors);
        if (winner) co_return std::move(*winner);
        errors.throw_all(options.all_errors);
    }
    for (const Address& address : addresses) {
        auto outcome = co_await try_await(connect_one(loop, address, locals, errors));
        if (outcome) co_return std::move(outcome).value();
        try {
            std::rethrow_exception(outcome.exception());
        } catch (
            const OSError&) {  // is in `errors`; anything else, a cancellation above all, ends the attempt
        }
    }
    errors.throw_all(options.all_errors);
}

Coro<Socket> connect_unix(std::string path) {
    Socket socket(AF_UNIX, SOCK_STREAM);
    Address address = kernel_address({std::move(path)}, AF_UNIX);
    co_await connect_descriptor(get_running_loop(), socket.fileno(), address);
    co_return socket;
}

Coro<AnyConnected> connect_transport(EventLoop& loop, Socket socket, AnyProtocolFactory factory,
                                     std::optional<TlsSettings> tls) {
    check_stream_socket(socket);
    auto protocol = factory();
    if (!tls) {
        auto transport = std::make_shared<SocketTransport>(loop, std::move(socket), protocol);
        co_return co_await start_transport(loop, std::move(transport), std::move(protocol));
    }
    Future<> ready = loop.create_future();
    auto below = std::make_shared<TlsProtocol>(loop, protocol, std::move(*tls), setter_of(ready));
    std::make_shared<SocketTransport>(loop, std::move(socket), below)->start();
    auto transport = below->app_transport();
    auto outcome = co_await try_await(ready);
    if (!outcome) {
        transport->close();
        outcome.value();
    }
    debug_log(loop, LogLevel::DEBUG_, [&] { return "connected over TLS: " + transport->describe(); });
    co_return AnyConnected{std::move(transport), std::move(protocol)};
}

namespace {

Coro<AnyConnected> connect_and_start(EventLoop& loop, AnyProtocolFactory factory, Coro<Socket> connecting,
                                     TlsPlan plan, std::string host) {
    loop.check_closed();
    auto tls = plan.settings(host);
    Socket socket = co_await std::move(connecting);
    co_return co_await connect_transport(loop, std::move(socket), std::move(factory), std::move(tls));
}

}  // namespace

Coro<Socket> given(Socket socket) { co_return socket; }

// The functions below are no coroutines: what the options refer to is copied before they return.

Coro<AnyConnected> create_connection(EventLoop& loop, AnyProtocolFactory factory, std::string host, int port,
                                     const ConnectionOptions& options) {
    auto connecting = connect_stream(host, port, options, std::string(options.local_addr.host()));
    return connect_and_start(loop, std::move(factory), std::move(connecting), TlsPlan::of(options, false),
                             std::move(host));
}

Coro<AnyConnected> create_connection(EventLoop& loop, AnyProtocolFactory factory, Socket socket,
                                     const ConnectionOptions& options) {
    return connect_and_start(loop, std::move(factory), given(std::move(socket)), TlsPlan::of(options, false),
                             {});
}

Coro<AnyConnected> create_unix_connection(EventLoop& loop, AnyProtocolFactory factory, std::string path,
                                          const UnixConnectionOptions& options) {
    return connect_and_start(loop, std::move(factory), connect_unix(std::move(path)),
                             TlsPlan::of(options, false), {});
}

Coro<AnyConnected> connect_accepted_socket(EventLoop& loop, AnyProtocolFactory factory, Socket socket,
                                           const AcceptedSocketOptions& options) {
    return connect_and_start(loop, std::move(factory), given(std::move(socket)), TlsPlan::of(options, true),
                             {});
}

// ---- start_tls

namespace {

Coro<std::shared_ptr<Transport>> start_tls(EventLoop& loop, std::shared_ptr<Transport> transport,
                                           std::shared_ptr<StreamingProtocol> protocol, TlsPlan plan) {
    bool can =
        dynamic_cast<SocketTransport*>(transport.get()) || dynamic_cast<TlsTransport*>(transport.get());
    if (!can) throw TypeError("this transport is not supported by start_tls()");
    // Without a name there is nothing to check; the context says whether it may be so.
    if (!plan.server_hostname) plan.server_hostname.emplace();
    Future<> ready = loop.create_future();
    auto above =
        std::make_shared<TlsProtocol>(loop, std::move(protocol), *plan.settings(), setter_of(ready), false);
    // So that nothing arrives before connection_made.
    transport->pause_reading();
    transport->set_protocol(above);
    Handle made = loop.call_soon([above, transport] { above->connection_made(transport); });
    Handle resumed = loop.call_soon([transport] { transport->resume_reading(); });
    auto outcome = co_await try_await(ready);
    if (!outcome) {
        transport->close();
        made.cancel();
        resumed.cancel();
        outcome.value();
    }
    co_return above->app_transport();
}

}  // namespace

// ---- sendfile

namespace {

/// Takes the protocol's place while a file is sent by hand, to wait for room in the transport's buffer.
class SendfileProtocol final : public Protocol {
  public:
    explicit SendfileProtocol(EventLoop& loop, Transport& transport)
        : loop_(loop), transport_(transport), original_(transport.get_protocol()) {
        was_reading_ = transport.is_reading();
        transport.pause_reading();
    }
    void restore() {
        if (lost_) return;
        transport_.set_protocol(original_);
        if (was_reading_) transport_.resume_reading();
    }
    /// Until there is room. What counts is the buffer: writing may have been paused before this protocol came.
    Coro<> drain() {
        while (!lost_ && transport_.get_write_buffer_size() > transport_.get_write_buffer_limits().second) {
            room_ = loop_.create_future();
            co_await room_;
        }
        if (lost_ || transport_.is_closing()) throw ConnectionError("Connection closed by peer");
    }

    void data_received(std::string_view) override {
        throw RuntimeError("Invalid state: reading should be paused");
    }
    bool eof_received() override { throw RuntimeError("Invalid state: reading should be paused"); }
    void pause_writing() override { original_->pause_writing(); }
    void resume_writing() override {
        if (room_ && !room_.done()) room_.set_result();
        original_->resume_writing();
    }
    void connection_lost(std::exception_ptr error) override {
        lost_ = true;
        if (room_ && !room_.done()) room_.set_result();
        original_->connection_lost(error);
    }

  private:
    EventLoop& loop_;
    Transport& transport_;
    std::shared_ptr<StreamingProtocol> original_;
    Future<> room_;
    bool was_reading_ = false;
    bool lost_ = false;
};

Coro<> send_by_hand(EventLoop& loop, std::shared_ptr<Transport> transport, FileSender& sender) {
    auto protocol = std::make_shared<SendfileProtocol>(loop, *transport);
    transport->set_protocol(protocol);
    auto sending = [](Transport& to, SendfileProtocol& flow, FileSender& from) -> Coro<> {
        while (!from.done()) {
            co_await flow.drain();
            std::string_view chunk = co_await from.read_chunk();
            if (chunk.empty()) break;
            if (to.is_closing()) throw ConnectionError("Connection closed by peer");
            to.write(chunk);
            from.sent_by_hand(chunk.size());
        }
        co_await flow.drain();
    };
    auto outcome = co_await try_await(sending(*transport, *protocol, sender));
    protocol->restore();
    outcome.value();
}

Coro<std::size_t> send_file(EventLoop& loop, std::shared_ptr<Transport> transport, int file,
                            std::int64_t offset, std::optional<std::int64_t> count, SendfileOptions options) {
    if (!transport || transport->is_closing()) throw RuntimeError("Transport is closing");
    if (dynamic_cast<SendfileProtocol*>(transport->get_protocol().get()))
        throw RuntimeError("sendfile is in progress on this transport already");
    FileSender sender(file, offset, count);
    if (auto* socket = dynamic_cast<SocketTransport*>(transport.get())) {
        auto outcome = co_await try_await(socket->send_file(sender));
        if (outcome) co_return outcome.value();
        try {
            std::rethrow_exception(outcome.exception());
        } catch (const SendfileNotAvailableError&) {
            if (!options.fallback) throw;
        }
    } else if (!options.fallback) {
        throw RuntimeError("fallback is disabled and native sendfile is not supported for this transport");
    }
    co_await send_by_hand(loop, std::move(transport), sender);
    co_return sender.total();
}

}  // namespace

}  // namespace detail

Coro<std::shared_ptr<Transport>> EventLoop::start_tls(std::shared_ptr<Transport> transport,
                                                      std::shared_ptr<StreamingProtocol> protocol,
                                                      SslContext context) {
    return start_tls(std::move(transport), std::move(protocol), std::move(context), {});
}

Coro<std::shared_ptr<Transport>> EventLoop::start_tls(std::shared_ptr<Transport> transport,
                                                      std::shared_ptr<StreamingProtocol> protocol,
                                                      SslContext context, StartTlsOptions options) {
    if (!transport || !protocol) throw ValueError("start_tls() needs a transport and a protocol");
    detail::TlsPlan plan{.context = std::move(context),
                         .handshake_timeout = options.ssl_handshake_timeout,
                         .shutdown_timeout = options.ssl_shutdown_timeout,
                         .server_side = options.server_side};
    if (options.server_hostname) plan.server_hostname = std::string(*options.server_hostname);
    if (options.session) plan.session = *options.session;
    return detail::start_tls(*this, std::move(transport), std::move(protocol), std::move(plan));
}

Coro<std::size_t> EventLoop::sendfile(std::shared_ptr<Transport> transport, FileDescriptor file,
                                      std::int64_t offset, std::optional<std::int64_t> count,
                                      SendfileOptions options) {
    return detail::send_file(*this, std::move(transport), file.fileno(), offset, count, options);
}

}  // namespace coil
