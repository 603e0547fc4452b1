// A connection of the load generator, by TCP or by TLS over it.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

/// The same choices for every server. The certificate is nobody's: it is not verified.
inline SSL_CTX* new_tls_client() {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set1_groups_list(context, "X25519");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    return context;
}

class Channel {
  public:
    /// Connects, and with TLS sends the first message of the handshake; send_byte() does the rest of it.
    Channel(int port, SSL_CTX* tls) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (fd_ < 0) fail("socket");
        int on = 1;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        linger reset{1, 0};  // leave no port in TIME_WAIT
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) fail("connect");
        if (!tls) return;
        ssl_.reset(SSL_new(tls));
        SSL_set_fd(ssl_.get(), fd_);
        set_blocking(false);
        int result = SSL_connect(ssl_.get());  // 1: the server's answer was there already
        if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ)
            fail("the start of a handshake");
        set_blocking(true);
    }
    Channel(Channel&& other) noexcept : fd_(std::exchange(other.fd_, -1)), ssl_(std::move(other.ssl_)) {}
    ~Channel() {
        if (fd_ >= 0) close(fd_);
    }

    /// Whether the server works: a byte there and back.
    void send_byte() {
        if (ssl_ && (SSL_connect(ssl_.get()) != 1 || SSL_session_reused(ssl_.get()))) fail("a handshake");
        if (send("?", 1) != 1) fail("send");
    }
    void receive_byte() {
        char byte = 0;
        if (recv(&byte, 1) != 1 || byte != '?') fail("the first byte did not come back");
    }

    /// Says goodbye; then the server's end comes.
    void finish() {
        if (ssl_) SSL_shutdown(ssl_.get());
        shutdown(fd_, SHUT_WR);
    }
    void wait_end() {
        char dropped[4096];  // the server's tickets and close_notify
        ssize_t size = 0;
        do size = ::recv(fd_, dropped, sizeof dropped, 0);
        while (size > 0 && ssl_);
        if (size != 0) fail("the server's end of a connection");
    }

    /// As send(2) and recv(2).
    ssize_t send(const char* data, std::size_t size) {
        if (!ssl_) return ::send(fd_, data, size, 0);
        return result_of(SSL_write(ssl_.get(), data, static_cast<int>(size)));
    }
    ssize_t recv(char* data, std::size_t size) {
        if (!ssl_) return ::recv(fd_, data, size, 0);
        return result_of(SSL_read(ssl_.get(), data, static_cast<int>(size)));
    }

    void set_blocking(bool blocking) {
        int flags = fcntl(fd_, F_GETFL);
        fcntl(fd_, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    }
    int fd() const { return fd_; }

  private:
    struct Free {
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };

    ssize_t result_of(int size) {
        if (size > 0) return size;
        int error = SSL_get_error(ssl_.get(), size);
        if (error == SSL_ERROR_ZERO_RETURN) return 0;
        errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
        return -1;
    }

    int fd_;
    std::unique_ptr<SSL, Free> ssl_;
};
