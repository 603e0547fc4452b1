// Watched descriptors: callbacks on readiness, replacement, what removal returns.

#include <sys/socket.h>
#include <unistd.h>

#include "scenario.hpp"

namespace conformance {

static std::string receive(int fd) {
    char buffer[100];
    ssize_t size = ::recv(fd, buffer, sizeof buffer, 0);
    if (size < 0) coil::throw_os_error(errno, "recv");
    return std::string(buffer, static_cast<std::size_t>(size));
}

static void send(int fd, std::string_view data) {
    if (::send(fd, data.data(), data.size(), 0) < 0) coil::throw_os_error(errno, "send");
}

static Coro<> main() {
    coil::EventLoop& loop = coil::get_running_loop();
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        coil::throw_os_error(errno, "socketpair");
    int a = pair[0];
    int b = pair[1];
    auto done = loop.create_future();

    auto old_reader = [] { print("old reader must not run"); };
    auto reader = [a, done]() mutable {
        std::string data = receive(a);
        print("reader got", data);
        if (data == "two") done.set_result();
    };

    print("remove unknown", yn(loop.remove_reader(a)));
    loop.add_reader(a, old_reader);
    loop.add_reader(a, reader);  // replaces (and cancels) the old one
    send(b, "one");
    co_await coil::sleep(20ms);
    send(b, "two");
    co_await done;
    print("remove known", yn(loop.remove_reader(a)));
    print("remove again", yn(loop.remove_reader(a)));
    send(b, "unseen");
    co_await coil::sleep(20ms);
    print("still unread", receive(a));

    int writes = 0;
    auto written = loop.create_future();
    auto writer = [&loop, &writes, b, written]() mutable {
        if (++writes == 3) {
            print("writable 3 times, removing", yn(loop.remove_writer(b)));
            written.set_result();
        }
    };
    loop.add_writer(b, writer);  // level triggered: called in every iteration
    co_await written;
    print("writer calls", writes);
    ::close(a);
    ::close(b);
}

SCENARIO("011_add_reader_writer", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
