// bench_echo_asio_callbacks PORT [CERTIFICATE]
#include <cstdlib>
#include <memory>

#include "../common/asio_tls.hpp"

using tcp = asio::ip::tcp;
using Executor = asio::io_context::executor_type;  // not the type-erased default, which costs more
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;

constexpr std::size_t LIMIT = 262144;

template <class Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
  public:
    template <class... Context>
    explicit Session(Socket socket, Context&... context)
        : stream_(std::move(socket), context...), buffer_(new char[LIMIT]) {}

    void start() {
        if constexpr (IS_TLS<Stream>) {
            stream_.async_handshake(asio::ssl::stream_base::server,
                                    [self = this->shared_from_this()](error_code error) {
                                        if (!error) self->read();
                                    });
        } else {
            read();
        }
    }

  private:
    void read() {
        auto handler = [self = this->shared_from_this()](error_code error, std::size_t size) {
            if (!error) {
                self->write(size);
            } else if (error == asio::error::eof) {
                self->finish();
            }
        };
        stream_.async_read_some(asio::buffer(buffer_.get(), LIMIT), std::move(handler));
    }

    void write(std::size_t size) {
        auto handler = [self = this->shared_from_this()](error_code error, std::size_t) {
            if (!error) self->read();
        };
        asio::async_write(stream_, asio::buffer(buffer_.get(), size), std::move(handler));
    }

    void finish() {
        if constexpr (IS_TLS<Stream>)
            stream_.async_shutdown([self = this->shared_from_this()](error_code) {});
    }

    Stream stream_;
    std::unique_ptr<char[]> buffer_;
};

template <class Stream, class... Context>
void accept_next(Acceptor& acceptor, Context&... context) {
    acceptor.async_accept([&](error_code error, Socket socket) {
        if (!error) {
            socket.set_option(tcp::no_delay(true), error);
            std::make_shared<Session<Stream>>(std::move(socket), context...)->start();
        }
        accept_next<Stream>(acceptor, context...);
    });
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    asio::io_context io(1);
    auto port = static_cast<unsigned short>(std::atoi(argv[1]));
    Acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor.listen(4096);
    if (argc < 3) {
        accept_next<Socket>(acceptor);
        io.run();
    } else {
        asio::ssl::context context = server_context(argv[2]);
        accept_next<asio::ssl::stream<Socket>>(acceptor, context);
        io.run();
    }
}
