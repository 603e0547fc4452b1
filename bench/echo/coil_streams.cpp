// bench_echo_coil_streams PORT read|read_into|read_into_shared
//
// read              co_await reader.read(n) gives a string
// read_into         into a buffer that each connection owns
// read_into_shared  into one buffer for all connections: right only because a read moves bytes when the
//                   waiting task resumes, not before, and write() keeps what it could not send
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

coil::Coro<> serve(int port, std::string_view how) {
    auto on_client = how == "read_into"          ? on_read_into_client
                     : how == "read_into_shared" ? on_read_into_shared_client
                                                 : on_read_client;
    coil::Server server = co_await coil::start_server(on_client, "127.0.0.1", port, {.backlog = 4096});
    co_await server.serve_forever();
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    coil::run(serve(std::atoi(argv[1]), argc > 2 ? argv[2] : "read"));
}
