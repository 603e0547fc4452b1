// bench_echo_openssl PORT CERTIFICATE
//
// What TLS costs without a library around OpenSSL: its own reads and writes on the socket. CERTIFICATE is a
// PEM file with the key in it.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "../common/epoll_server.hpp"

static char buffer[256 * 1024];

class Connection {
  public:
    Connection(int poller, int fd, SSL_CTX* context) : poller_(poller), fd_(fd), ssl_(SSL_new(context)) {
        SSL_set_fd(ssl_, fd);
        SSL_set_accept_state(ssl_);
        watch(poller, EPOLL_CTL_ADD, fd, waits_for_, this);
    }
    ~Connection() {
        SSL_free(ssl_);
        close(fd_);
    }

    void on_ready() {
        if (!unsent_.empty()) {
            std::string data = std::move(unsent_);
            if (!write(data.data(), data.size())) return;
        }
        do {
            int size = SSL_read(ssl_, buffer, sizeof buffer);  // makes the handshake too
            if (size <= 0) return stopped(size);
            if (!write(buffer, static_cast<std::size_t>(size))) return;
        } while (SSL_has_pending(ssl_));
        wait_for(EPOLLIN);
    }

  private:
    /// False if it has to wait, or the connection is gone.
    bool write(const char* data, std::size_t size) {
        while (size > 0) {
            int sent = SSL_write(ssl_, data, static_cast<int>(size));
            if (sent <= 0) {
                unsent_.assign(data, size);
                stopped(sent);
                return false;
            }
            data += sent;
            size -= static_cast<std::size_t>(sent);
        }
        return true;
    }

    void stopped(int result) {
        switch (SSL_get_error(ssl_, result)) {
            case SSL_ERROR_WANT_READ:
                return wait_for(EPOLLIN);
            case SSL_ERROR_WANT_WRITE:
                return wait_for(EPOLLOUT);
            case SSL_ERROR_ZERO_RETURN:
                SSL_shutdown(ssl_);
                break;
            default:
                ERR_clear_error();
        }
        delete this;
    }

    void wait_for(std::uint32_t events) {
        if (std::exchange(waits_for_, events) != events) watch(poller_, EPOLL_CTL_MOD, fd_, events, this);
    }

    int poller_;
    int fd_;
    SSL* ssl_;
    std::uint32_t waits_for_ = EPOLLIN;
    std::string unsent_;
};

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    std::signal(SIGPIPE, SIG_IGN);
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, argv[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 128 * 1024);
    serve<Connection>(std::atoi(argv[1]),
                      [context](int poller, int fd) { new Connection(poller, fd, context); });
}
