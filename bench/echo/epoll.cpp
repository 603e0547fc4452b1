// bench_echo_epoll PORT
//
// The raw server that the others are compared with: one recv and one send per event.
#include "../common/epoll_server.hpp"

#include <cerrno>
#include <cstdlib>
#include <string>

static char buffer[256 * 1024];

class Connection {
  public:
    Connection(int poller, int fd) : poller_(poller), fd_(fd) { wait(EPOLL_CTL_ADD); }
    ~Connection() { close(fd_); }

    void on_ready() { unsent_.empty() ? on_readable() : on_writable(); }

  private:
    void wait(int operation) { watch(poller_, operation, fd_, unsent_.empty() ? EPOLLIN : EPOLLOUT, this); }

    /// Sends what goes out now; -1 if the connection is broken.
    ssize_t send_some(const char* data, std::size_t size) {
        ssize_t sent = send(fd_, data, size, MSG_NOSIGNAL);
        return sent < 0 && errno == EAGAIN ? 0 : sent;
    }

    void on_writable() {
        ssize_t sent = send_some(unsent_.data(), unsent_.size());
        if (sent < 0) return delete this;
        unsent_.erase(0, static_cast<std::size_t>(sent));
        if (unsent_.empty()) wait(EPOLL_CTL_MOD);
    }

    void on_readable() {
        ssize_t size = recv(fd_, buffer, sizeof buffer, 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) return delete this;
        ssize_t sent = send_some(buffer, static_cast<std::size_t>(size));
        if (sent < 0) return delete this;
        if (sent == size) return;
        unsent_.assign(buffer + sent, static_cast<std::size_t>(size - sent));
        wait(EPOLL_CTL_MOD);
    }

    int poller_;
    int fd_;
    std::string unsent_;  // while it is not empty the connection waits for writing only
};

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    serve<Connection>(std::atoi(argv[1]), [](int poller, int fd) { new Connection(poller, fd); });
}
