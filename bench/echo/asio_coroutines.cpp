// bench_echo_asio_coroutines PORT [CERTIFICATE]
#include <cstdlib>
#include <memory>
#include <optional>

#include "../common/asio_tls.hpp"

using tcp = asio::ip::tcp;

constexpr std::size_t LIMIT = 262144;

template <class Stream>
Awaitable<> echo(Stream stream) {
    std::unique_ptr<char[]> buffer(new char[LIMIT]);
    bool ended = false;
    try {
        if constexpr (IS_TLS<Stream>)
            co_await stream.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
        for (;;) {
            std::size_t size =
                co_await stream.async_read_some(asio::buffer(buffer.get(), LIMIT), asio::use_awaitable);
            co_await asio::async_write(stream, asio::buffer(buffer.get(), size), asio::use_awaitable);
        }
    } catch (const boost::system::system_error& error) {
        ended = error.code() == asio::error::eof;
    }
    if constexpr (IS_TLS<Stream>) {
        error_code ignored;
        if (ended) co_await stream.async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

Awaitable<> serve(tcp::acceptor acceptor, std::optional<asio::ssl::context> context) {
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        error_code error;
        socket.set_option(tcp::no_delay(true), error);
        auto executor = socket.get_executor();
        if (context) {
            asio::ssl::stream<tcp::socket> stream(std::move(socket), *context);
            asio::co_spawn(executor, echo(std::move(stream)), asio::detached);
        } else {
            asio::co_spawn(executor, echo(std::move(socket)), asio::detached);
        }
    }
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    asio::io_context io(1);
    auto port = static_cast<unsigned short>(std::atoi(argv[1]));
    tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor.listen(4096);
    std::optional<asio::ssl::context> context;
    if (argc > 2) context = server_context(argv[2]);
    asio::co_spawn(io, serve(std::move(acceptor), std::move(context)), asio::detached);
    io.run();
}
