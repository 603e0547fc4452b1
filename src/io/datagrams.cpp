#include "coil/datagrams.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <any>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <tuple>
#include <vector>

#include "coil/exceptions.hpp"
#include "coil/futures.hpp"
#include "coil/log.hpp"
#include "io/address.hpp"
#include "io/dns.hpp"
#include "io/fd_wait.hpp"
#include "io/queued_watch.hpp"
#include "io/stream_transport.hpp"
#include "loop/debug_log.hpp"
#include "loop/descriptors.hpp"

namespace coil {

void DatagramProtocol::connection_made(std::shared_ptr<DatagramTransport>) {}
void DatagramProtocol::datagram_received(std::string_view, const SocketAddress&) {}
void DatagramProtocol::error_received(std::exception_ptr) {}

namespace detail {

namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

class SocketDatagramTransport final : public DatagramTransport,
                                      public std::enable_shared_from_this<SocketDatagramTransport>,
                                      private LoopResource {
  public:
    /// `peer`: where messages without an address go, if the socket itself is not connected.
    SocketDatagramTransport(EventLoop& loop, Socket socket, std::shared_ptr<DatagramProtocol> protocol,
                            std::optional<Address> peer)
        : loop_(loop),
          socket_(std::move(socket)),
          watch_(loop, socket_.fileno(), *this),
          protocol_(std::move(protocol)),
          peer_(peer),
          family_(socket_.family()) {
        Address name;
        connected_ = ::getpeername(socket_.fileno(), name.data(), &name.length) == 0;
        if (connected_) peer_ = name;
        loop.core().resources.push_back(*this);
        own_descriptor(loop.core(), socket_.fileno(), true);
    }
    ~SocketDatagramTransport() override {
        if (linked()) unlink();
        watch_.stop();
        close_descriptor();
    }

    void start(std::function<void()> on_ready) {
        keeps_itself_ = shared_from_this();
        loop_.call_soon([me = shared_from_this()] {
            if (!me->protocol_) return;
            me->protocol_connected_ = true;
            me->protocol_->connection_made(me);
        });
        loop_.call_soon([me = shared_from_this()] {
            if (me->closing_) return;
            me->reading_ = true;
            me->watch_.start();
            if (me->watch_.ready & READABLE) me->watch_.queue();  // a send has started the watch before
        });
        loop_.call_soon(std::move(on_ready));
    }

    std::any get_extra_info(std::string_view name) const override {
        if (name == "socket") return TransportSocket(socket_.fileno());
        if (name == "sockname") return socket_ ? socket_.getsockname() : sockname_.public_form();
        if (name == "peername" && connected_) return peer_->public_form();
        return {};
    }
    bool is_closing() const override { return closing_; }
    void close() override {
        if (std::exchange(closing_, true)) return;
        if (queue_.empty()) queue_connection_lost(nullptr);
    }
    void abort() override { force_close(nullptr); }
    std::size_t get_write_buffer_size() const override { return buffered_; }
    std::pair<std::size_t, std::size_t> get_write_buffer_limits() const override { return {low_, high_}; }
    void set_write_buffer_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) override {
        std::tie(low_, high_) = write_buffer_limits(high, low);
        pause_if_full();
    }
    void set_protocol(std::shared_ptr<DatagramProtocol> protocol) override {
        if (!protocol) throw ValueError("a transport needs a protocol");
        protocol_ = std::move(protocol);
    }
    std::shared_ptr<DatagramProtocol> get_protocol() const override { return protocol_; }

    void sendto(std::string_view data) override {
        if (!peer_) throw ValueError("sendto() needs an address: the endpoint is not connected");
        send({std::string(), std::nullopt}, data);
    }
    void sendto(std::string_view data, const SocketAddress& address) override {
        if (peer_) {
            if (address != peer_->public_form())
                throw ValueError(
                    fmt::format("Invalid address: must be none or {}", to_string(peer_->public_form())));
            return sendto(data);
        }
        send({std::string(), kernel_address(address, family_)}, data);
    }

  private:
    struct Packet {
        std::string data;
        std::optional<Address> to;  // nothing: the peer
    };
    struct Watching final : QueuedWatch {
        Watching(EventLoop& loop, int fd, SocketDatagramTransport& transport)
            : QueuedWatch(loop, fd, &Watching::run), owner(transport) {}
        static void run(Runnable& self, How how) {
            auto& watch = static_cast<Watching&>(self);
            watch.dequeued();
            if (how == How::DISCARD || !watch.started()) return;
            auto keep = watch.owner.shared_from_this();
            if ((watch.ready & READABLE) && !watch.owner.closing_ && watch.owner.reading_)
                watch.owner.read_ready();
            if ((watch.ready & WRITABLE) && !watch.owner.lost_) watch.owner.write_ready();
        }
        SocketDatagramTransport& owner;
    };
    static constexpr std::size_t HEADER = 8;  // counted for each queued message, as asyncio does

    void loop_closed() noexcept override {
        log(LogLevel::WARNING, "unclosed datagram transport: its loop was closed before it");
        auto keep = std::move(keeps_itself_);
        watch_.stop();
        close_descriptor();
        closing_ = lost_ = true;
        queue_.clear();
        buffered_ = 0;
        auto protocol = std::move(protocol_);
    }
    void close_descriptor() noexcept {
        if (!socket_) return;
        own_descriptor(loop_.core(), socket_.fileno(), false);
        ::getsockname(socket_.fileno(), sockname_.data(), &sockname_.length);
        socket_.close();
    }

    void read_ready() {
        std::span<std::byte> buffer = shared_read_buffer();
        Address from;
        ssize_t size =
            ::recvfrom(socket_.fileno(), buffer.data(), buffer.size(), 0, from.data(), &from.length);
        if (size < 0 && would_block(errno)) return watch_.forget(READABLE);
        watch_.queue();  // one message a turn; no edge says that there are more
        if (size < 0) {
            auto error = make_os_error(errno);
            return call_protocol("error_received", [&] { protocol_->error_received(error); });
        }
        if (from.length == 0) from.storage.ss_family = AF_UNSPEC;  // of a Unix socket without a name
        std::string_view data(reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(size));
        SocketAddress address = from.public_form();
        call_protocol("datagram_received", [&] { protocol_->datagram_received(data, address); });
    }

    /// False if it would have to wait.
    bool transmit(std::string_view data, const std::optional<Address>& to) {
        const std::optional<Address>& target = connected_ ? NONE : to ? to : peer_;
        ssize_t size = target ? ::sendto(socket_.fileno(), data.data(), data.size(), MSG_NOSIGNAL,
                                         target->data(), target->length)
                              : ::send(socket_.fileno(), data.data(), data.size(), MSG_NOSIGNAL);
        if (size >= 0) return true;
        if (would_block(errno)) {
            watch_.forget(WRITABLE);
            return false;
        }
        auto error = make_os_error(errno);
        call_protocol("error_received", [&] { protocol_->error_received(error); });
        return true;
    }

    void send(Packet packet, std::string_view data) {
        if (lost_) {
            constexpr unsigned WARN_FROM = 5;
            if (++writes_after_loss_ == WARN_FROM)
                log(LogLevel::WARNING, "sendto() on a datagram transport that is lost");
            return;
        }
        if (queue_.empty() && transmit(data, packet.to)) return;
        if (lost_) return;
        packet.data = data;
        queue_.push_back(std::move(packet));
        buffered_ += data.size() + HEADER;
        watch_.start();
        pause_if_full();
    }

    void write_ready() {
        while (!queue_.empty()) {
            Packet& first = queue_.front();
            if (!transmit(first.data, first.to)) break;
            if (lost_) return;
            buffered_ -= first.data.size() + HEADER;
            queue_.pop_front();
        }
        if (buffered_ <= low_ && std::exchange(paused_, false))
            report("protocol.resume_writing() failed", [&] { protocol_->resume_writing(); });
        if (queue_.empty() && closing_ && !lost_) {
            lost_ = true;
            connection_lost(nullptr);
        }
    }

    void pause_if_full() {
        if (buffered_ <= high_ || std::exchange(paused_, true)) return;
        report("protocol.pause_writing() failed", [&] { protocol_->pause_writing(); });
    }

    template <class Call>
    void report(const char* message, Call&& call) {
        try {
            call();
        } catch (const KeyboardInterrupt&) {
            throw;
        } catch (...) {
            loop_.call_exception_handler({.message = message, .exception = std::current_exception()});
        }
    }

    template <class Call>
    void call_protocol(const char* name, Call&& call) {
        auto protocol = protocol_;
        try {
            call();
        } catch (const KeyboardInterrupt&) {
            throw;
        } catch (...) {
            auto error = std::current_exception();
            loop_.call_exception_handler(
                {.message = fmt::format("Fatal error: protocol.{}() call failed.", name),
                 .exception = error});
            force_close(error);
        }
    }

    void force_close(std::exception_ptr error) {
        if (lost_) return;
        queue_.clear();
        buffered_ = 0;
        closing_ = true;
        queue_connection_lost(std::move(error));
    }
    void queue_connection_lost(std::exception_ptr error) {
        lost_ = true;
        watch_.stop();
        loop_.call_soon([me = shared_from_this(), error = std::move(error)] { me->connection_lost(error); });
    }
    void connection_lost(const std::exception_ptr& error) {
        if (!protocol_) return;
        watch_.stop();
        if (watch_.queued()) loop_.call_soon([keep = shared_from_this()] {});
        auto keep = std::move(keeps_itself_);
        auto protocol = std::move(protocol_);
        struct AtTheEnd {
            SocketDatagramTransport& transport;
            ~AtTheEnd() {
                transport.close_descriptor();
                if (transport.linked()) transport.unlink();
            }
        } at_the_end{*this};
        if (protocol_connected_)
            report("protocol.connection_lost() failed", [&] { protocol->connection_lost(error); });
    }

    static inline const std::optional<Address> NONE;

    EventLoop& loop_;
    Socket socket_;
    Watching watch_;
    std::shared_ptr<SocketDatagramTransport> keeps_itself_;  // while it is open
    std::shared_ptr<DatagramProtocol> protocol_;
    std::optional<Address> peer_;
    Address sockname_;  // once it is closed
    int family_;
    std::deque<Packet> queue_;
    std::size_t buffered_ = 0;
    std::size_t high_ = 64 * 1024;
    std::size_t low_ = 16 * 1024;
    unsigned writes_after_loss_ = 0;
    bool connected_ = false;
    bool reading_ = false;
    bool closing_ = false;
    bool lost_ = false;
    bool paused_ = false;
    bool protocol_connected_ = false;
};

Coro<AnyDatagramEndpoint> start_endpoint(EventLoop& loop, Socket socket, AnyDatagramFactory factory,
                                         std::optional<Address> peer) {
    auto protocol = factory();
    auto transport = std::make_shared<SocketDatagramTransport>(loop, std::move(socket), protocol, peer);
    Future<> ready = loop.create_future();
    transport->start([ready]() mutable {
        if (!ready.done()) ready.set_result();
    });
    auto outcome = co_await try_await(ready);
    if (!outcome) {
        transport->close();
        outcome.value();
    }
    debug_log(loop, LogLevel::INFO, [&] { return "Datagram endpoint created: " + transport->describe(); });
    co_return AnyDatagramEndpoint{std::move(transport), std::move(protocol)};
}

/// The options with texts of their own.
struct EndpointPlan {
    DatagramOptions options;
    std::string local_host;
    std::string remote_host;
};

struct AddressPair {
    int family = 0;
    int proto = 0;
    std::optional<Address> local;
    std::optional<Address> remote;
};

Address unix_address(const std::string& path) { return kernel_address({path}, AF_UNIX); }

void remove_stale_socket(const std::string& path) {
    struct stat status{};
    if (path.empty() || path.front() == '\0' || ::stat(path.c_str(), &status) < 0) return;
    if (S_ISSOCK(status.st_mode) && ::unlink(path.c_str()) < 0)
        log(LogLevel::ERROR_,
            fmt::format("Unable to check or remove stale UNIX socket '{}': {}", path, std::strerror(errno)));
}

Coro<std::vector<AddressPair>> address_pairs(EventLoop& loop, const EndpointPlan& plan) {
    const DatagramOptions& options = plan.options;
    std::vector<AddressPair> pairs;
    if (!options.local_addr && !options.remote_addr) {
        if (options.family == 0) throw ValueError("unexpected address family");
        pairs.push_back({options.family, options.proto, {}, {}});
        co_return pairs;
    }
    if (options.family == AF_UNIX) {
        AddressPair pair{AF_UNIX, options.proto, {}, {}};
        if (options.local_addr) {
            remove_stale_socket(plan.local_host);
            pair.local = unix_address(plan.local_host);
        }
        if (options.remote_addr) pair.remote = unix_address(plan.remote_host);
        pairs.push_back(pair);
        co_return pairs;
    }
    for (bool local : {true, false}) {
        const HostPort& wanted = local ? options.local_addr : options.remote_addr;
        if (!wanted) continue;
        check_port(wanted.port());
        AddressOptions query{options.family, SOCK_DGRAM, options.proto, options.flags};
        auto found = co_await resolve(loop, local ? plan.local_host : plan.remote_host, wanted.port(), query);
        for (ResolvedAddress& entry : found) {
            entry.address.set_scope(wanted.flowinfo(), wanted.scope_id());
            auto same = std::ranges::find_if(pairs, [&](const AddressPair& pair) {
                return pair.family == entry.address.family() && pair.proto == entry.proto;
            });
            if (same == pairs.end())
                same = pairs.insert(same, AddressPair{entry.address.family(), entry.proto, {}, {}});
            (local ? same->local : same->remote) = entry.address;
        }
    }
    std::erase_if(pairs, [&](const AddressPair& pair) {
        return (options.local_addr && !pair.local) || (options.remote_addr && !pair.remote);
    });
    if (pairs.empty()) throw ValueError("can not get address information");
    co_return pairs;
}

Coro<Socket> open_socket(EventLoop& loop, const AddressPair& pair, const DatagramOptions& options) {
    Socket socket(pair.family, SOCK_DGRAM, pair.proto);
    if (options.reuse_port) socket.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.allow_broadcast) socket.setsockopt(SOL_SOCKET, SO_BROADCAST, 1);
    if (pair.local && ::bind(socket.fileno(), pair.local->data(), pair.local->length) < 0)
        throw_os_error(errno);
    if (pair.remote && !options.allow_broadcast)
        co_await connect_descriptor(loop, socket.fileno(), *pair.remote);
    co_return socket;
}

Coro<AnyDatagramEndpoint> open_endpoint(EventLoop& loop, AnyDatagramFactory factory, EndpointPlan plan) {
    loop.check_closed();
    auto pairs = co_await address_pairs(loop, plan);
    std::exception_ptr first_error;
    for (const AddressPair& pair : pairs) {
        auto outcome = co_await try_await(open_socket(loop, pair, plan.options));
        if (outcome)
            co_return co_await start_endpoint(loop, std::move(outcome).value(), std::move(factory),
                                              pair.remote);
        try {
            std::rethrow_exception(outcome.exception());
        } catch (const OSError&) {
            if (!first_error) first_error = outcome.exception();
        }
    }
    std::rethrow_exception(first_error);
}

Coro<AnyDatagramEndpoint> adopt_endpoint(EventLoop& loop, AnyDatagramFactory factory, Socket socket) {
    loop.check_closed();
    if (!socket || socket.type() == SOCK_STREAM)
        throw ValueError(fmt::format("A datagram socket was expected, got descriptor {}", socket.fileno()));
    co_return co_await start_endpoint(loop, std::move(socket), std::move(factory), std::nullopt);
}

}  // namespace

Coro<AnyDatagramEndpoint> create_datagram_endpoint(EventLoop& loop, AnyDatagramFactory factory,
                                                   const DatagramOptions& options) {
    EndpointPlan plan{options, std::string(options.local_addr.host()),
                      std::string(options.remote_addr.host())};
    return open_endpoint(loop, std::move(factory), std::move(plan));
}

Coro<AnyDatagramEndpoint> create_datagram_endpoint(EventLoop& loop, AnyDatagramFactory factory,
                                                   Socket socket) {
    return adopt_endpoint(loop, std::move(factory), std::move(socket));
}

}  // namespace detail

}  // namespace coil
