// bench_echo_coil PORT read|read_into|read_into_shared|protocol [CERTIFICATE]
//
// read              co_await reader.read(n) gives a string
// read_into         into a buffer that each connection owns
// read_into_shared  into one buffer for all connections: right because read_into writes to it only when it
//                   returns, and write() keeps what it could not send
// protocol          callbacks
//
// With a certificate, a PEM file that has the key in it, over TLS.
#include <coil/coil.hpp>

#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>

constexpr std::size_t LIMIT = 262144;

coil::Coro<> echo_read(coil::StreamReader reader, coil::StreamWriter writer) {
    try {
        for (;;) {
            std::string data = co_await reader.read(LIMIT);
            if (data.empty()) break;
            writer.write(data);
            co_await writer.drain();
        }
    } catch (const coil::OSError&) {  // the load generator resets its connections
    }
    writer.close();
}

/// Without a buffer of its own the connection uses the shared one.
coil::Coro<> echo_into(coil::StreamReader reader, coil::StreamWriter writer,
                       std::unique_ptr<std::byte[]> own) {
    static std::array<std::byte, LIMIT> shared;
    std::span<std::byte> buffer(own ? own.get() : shared.data(), LIMIT);
    try {
        for (;;) {
            std::size_t size = co_await reader.read_into(buffer);
            if (size == 0) break;
            writer.write(std::span<const std::byte>(buffer.first(size)));
            co_await writer.drain();
        }
    } catch (const coil::OSError&) {
    }
    writer.close();
}

coil::Coro<> on_read_into_client(coil::StreamReader reader, coil::StreamWriter writer) {
    return echo_into(std::move(reader), std::move(writer),
                     std::make_unique_for_overwrite<std::byte[]>(LIMIT));
}

coil::Coro<> on_read_into_shared_client(coil::StreamReader reader, coil::StreamWriter writer) {
    return echo_into(std::move(reader), std::move(writer), nullptr);
}

class EchoProtocol final : public coil::Protocol {
  public:
    void connection_made(std::shared_ptr<coil::Transport> transport) override {
        transport_ = std::move(transport);
    }
    void data_received(std::string_view data) override { transport_->write(data); }
    void connection_lost(std::exception_ptr) override { transport_ = nullptr; }

  private:
    std::shared_ptr<coil::Transport> transport_;
};

coil::Coro<coil::Server> start_protocols(int port, coil::ServerOptions options) {
    co_return co_await coil::get_running_loop().create_server([] { return std::make_shared<EchoProtocol>(); },
                                                              "127.0.0.1", port, options);
}

coil::Coro<coil::Server> start_streams(int port, std::string_view how, coil::ServerOptions options) {
    auto on_client = how == "read_into"          ? on_read_into_client
                     : how == "read_into_shared" ? on_read_into_shared_client
                                                 : echo_read;
    co_return co_await coil::start_server(on_client, "127.0.0.1", port, options);
}

coil::Coro<> serve(int port, std::string_view how, const char* certificate) {
    coil::ServerOptions options{.backlog = 4096};
    coil::SslContext context = coil::create_default_context(coil::SslPurpose::CLIENT_AUTH);
    if (certificate) {
        context.load_cert_chain(certificate);
        options.ssl = &context;
    }
    coil::Coro<coil::Server> starting =
        how == "protocol" ? start_protocols(port, options) : start_streams(port, how, options);
    coil::Server server = co_await std::move(starting);
    co_await server.serve_forever();
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    coil::run(serve(std::atoi(argv[1]), argc > 2 ? argv[2] : "read", argc > 3 ? argv[3] : nullptr));
}
