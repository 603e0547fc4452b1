// bench_echo_asio_callbacks PORT
#include "../common/asio.hpp"

#include <cstdlib>
#include <memory>

using tcp = asio::ip::tcp;
using Executor = asio::io_context::executor_type;  // not the type-erased default, which costs more
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;

constexpr std::size_t LIMIT = 65536;

class Session : public std::enable_shared_from_this<Session> {
  public:
    explicit Session(Socket socket) : socket_(std::move(socket)), buffer_(new char[LIMIT]) {}

    void read() {
        auto handler = [self = shared_from_this()](error_code error, std::size_t size) {
            if (!error) self->write(size);
        };
        socket_.async_read_some(asio::buffer(buffer_.get(), LIMIT), std::move(handler));
    }

  private:
    void write(std::size_t size) {
        auto handler = [self = shared_from_this()](error_code error, std::size_t) {
            if (!error) self->read();
        };
        asio::async_write(socket_, asio::buffer(buffer_.get(), size), std::move(handler));
    }

    Socket socket_;
    std::unique_ptr<char[]> buffer_;
};

void accept_next(Acceptor& acceptor) {
    acceptor.async_accept([&acceptor](error_code error, Socket socket) {
        if (!error) {
            socket.set_option(tcp::no_delay(true), error);
            std::make_shared<Session>(std::move(socket))->read();
        }
        accept_next(acceptor);
    });
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    asio::io_context io(1);
    auto port = static_cast<unsigned short>(std::atoi(argv[1]));
    Acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor.listen(4096);
    accept_next(acceptor);
    io.run();
}
