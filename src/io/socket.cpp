#include "io/socket.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>

#include "coil/events.hpp"
#include "coil/exceptions.hpp"

namespace coil::detail {

Socket Socket::stream(int family) {
    Socket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) throw_os_error(errno);
    return socket;
}

void Socket::close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Socket::set_option(int level, int option, int value) const {
    if (::setsockopt(fd_, level, option, &value, sizeof value) < 0) throw_os_error(errno);
}

QueuedWatch::QueuedWatch(EventLoop& loop, int descriptor, Runnable::Function function) noexcept
    : Watch(descriptor, Mode::EDGE, &queue_on_ready), Runnable(function), core_(loop.core()) {}

void QueuedWatch::start() {
    if (started_) return;
    core_.poller->add(*this);
    started_ = true;
}

void QueuedWatch::stop() noexcept {
    if (!std::exchange(started_, false)) return;
    core_.poller->remove(*this);
}

void QueuedWatch::queue() noexcept {
    if (queued_) return;
    queued_ = true;
    core_.ready.push(*this);
}

namespace {

/// Until the socket is writable: connected, or failed.
class ConnectWait final : public LeafWaiter, public OperationTag {
  public:
    ConnectWait(EventLoop& loop, int fd, std::string target)
        : watch_(loop, fd, *this), target_(std::move(target)) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        watch_.start();
    }
    void await_resume() {
        watch_.stop();
        throw_if_cancelled();
    }
    std::string describe() const override { return "connect to " + target_; }

  private:
    struct Watching final : QueuedWatch {
        Watching(EventLoop& loop, int fd, ConnectWait& wait)
            : QueuedWatch(loop, fd, &Watching::run), owner(wait) {}
        static void run(Runnable& self, How how) {
            auto& watch = static_cast<Watching&>(self);
            watch.dequeued();
            if (how == How::DISCARD || !(watch.ready & WRITABLE) || !watch.owner.pending()) return;
            watch.stop();
            watch.owner.wake();
        }
        ConnectWait& owner;
    };
    // Once the wait is over, nothing may put the watch into the ready queue: the task's step, queued behind it, destroys it.
    void called_off() noexcept override { watch_.stop(); }

    Watching watch_;
    std::string target_;
};

Coro<Socket> connect_to(const Address& address) {
    Socket socket = Socket::stream(address.family());
    std::string target = to_string(address.public_form());
    int error = 0;
    if (::connect(socket.fd(), address.data(), address.length) < 0) {
        error = errno;
        if (error == EINPROGRESS || error == EINTR) {
            co_await ConnectWait(get_running_loop(), socket.fd(), target);
            socklen_t size = sizeof error;
            if (::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
        }
    }
    if (error != 0) throw_os_error(error, fmt::format("Connect call failed {}", target));
    co_return socket;
}

}  // namespace

Coro<Socket> connect_to_any(std::vector<Address> addresses) {
    std::vector<std::exception_ptr> errors;
    std::vector<std::string> texts;
    for (const Address& address : addresses) {
        auto outcome = co_await try_await(connect_to(address));
        if (outcome) co_return std::move(outcome).value();
        try {
            std::rethrow_exception(outcome.exception());
        } catch (const OSError& e) {  // anything else, a cancellation above all, ends the attempt
            errors.push_back(outcome.exception());
            texts.emplace_back(e.what());
        }
    }
    bool alike = true;
    for (const std::string& text : texts) alike = alike && text == texts.front();
    if (alike) std::rethrow_exception(errors.front());
    throw OSError(fmt::format("Multiple exceptions: {}", fmt::join(texts, ", ")));
}

}  // namespace coil::detail
