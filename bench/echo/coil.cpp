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

constexpr std::size_t LIMIT = 65536;

coil::Coro<> echo_read(coil::StreamReader reader, coil::StreamWriter writer) {
    for (;;) {
        std::string data = co_await reader.read(LIMIT);
        if (data.empty()) break;
        writer.write(data);
        co_await writer.drain();
    }
}

coil::Coro<> echo_into(coil::StreamReader reader, coil::StreamWriter writer, std::span<std::byte> buffer) {
    for (;;) {
        std::size_t size = co_await reader.read_into(buffer);
        if (size == 0) break;
        writer.write(std::span<const std::byte>(buffer.first(size)));
        co_await writer.drain();
    }
}

coil::Coro<> serve_client(coil::Coro<> echo, coil::StreamWriter writer) {
    try {
        co_await std::move(echo);
    } catch (const coil::OSError&) {  // the load generator resets its connections
    }
    writer.close();
}

coil::Coro<> on_read_client(coil::StreamReader reader, coil::StreamWriter writer) {
    co_await serve_client(echo_read(reader, writer), writer);
}

coil::Coro<> on_read_into_client(coil::StreamReader reader, coil::StreamWriter writer) {
    std::unique_ptr<std::byte[]> buffer(new std::byte[LIMIT]);
    co_await serve_client(echo_into(reader, writer, std::span(buffer.get(), LIMIT)), writer);
}

coil::Coro<> on_read_into_shared_client(coil::StreamReader reader, coil::StreamWriter writer) {
    static std::array<std::byte, LIMIT> shared;
    co_await serve_client(echo_into(reader, writer, shared), writer);
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
                                                 : on_read_client;
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
