// bench_echo_asio_coroutines PORT
#include "../common/asio.hpp"

#include <cstdlib>
#include <memory>

using tcp = asio::ip::tcp;

constexpr std::size_t LIMIT = 65536;

Awaitable<> echo(tcp::socket socket) {
    std::unique_ptr<char[]> buffer(new char[LIMIT]);
    try {
        for (;;) {
            std::size_t size =
                co_await socket.async_read_some(asio::buffer(buffer.get(), LIMIT), asio::use_awaitable);
            co_await asio::async_write(socket, asio::buffer(buffer.get(), size), asio::use_awaitable);
        }
    } catch (const boost::system::system_error&) {
    }
}

Awaitable<> serve(tcp::acceptor acceptor) {
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        error_code error;
        socket.set_option(tcp::no_delay(true), error);
        auto executor = socket.get_executor();
        asio::co_spawn(executor, echo(std::move(socket)), asio::detached);
    }
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    asio::io_context io(1);
    auto port = static_cast<unsigned short>(std::atoi(argv[1]));
    tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor.listen(4096);
    asio::co_spawn(io, serve(std::move(acceptor)), asio::detached);
    io.run();
}
