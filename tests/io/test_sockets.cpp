#include "coil/sockets.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <any>
#include <array>
#include <cerrno>
#include <cstring>
#include <latch>
#include <memory>
#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/certificates.hpp"
#include "support/child.hpp"
#include "support/counting.hpp"
#include "support/errors.hpp"
#include "support/memory_file.hpp"
#include "support/run.hpp"
#include "support/sockets.hpp"
#include "sync/worker_pool.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::listening;
using support::MemoryFile;
using support::tcp_pair;
using support::thrown_by;
using support::thrown_by_await;

namespace {

SocketAddress local(int port = 0) { return {"127.0.0.1", port}; }

/// Writes until the kernel takes no more.
std::size_t fill(const Socket& socket) {
    const std::string block(64 * 1024, 'f');
    std::size_t total = 0;
    for (;;) {
        ssize_t size = ::send(socket.fileno(), block.data(), block.size(), MSG_NOSIGNAL);
        if (size < 0) return total;
        total += static_cast<std::size_t>(size);
    }
}

/// Bytes of which each place is recognised.
std::string pattern(std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>((i * 7 + i / 251) & 0x7f);
    return data;
}

Coro<std::string> receive_all(EventLoop& loop, const Socket& socket, std::size_t step = 100'000) {
    std::string all;
    for (;;) {
        std::string part = co_await loop.sock_recv(socket, step);
        if (part.empty()) co_return all;
        all += part;
    }
}

// ---- addresses and sockets, without a loop

TEST(SocketAddress, is_shown_as_python_shows_it) {
    EXPECT_EQ(to_string(SocketAddress{"127.0.0.1", 80}), "('127.0.0.1', 80)");
    EXPECT_EQ(to_string(SocketAddress{"::1", 80}), "('::1', 80, 0, 0)");
    EXPECT_EQ(to_string(SocketAddress{"fe80::1", 1, 2, 3}), "('fe80::1', 1, 2, 3)");
    EXPECT_EQ(to_string(SocketAddress{"/run/x.sock"}), "'/run/x.sock'");
    EXPECT_EQ(to_string(SocketAddress{}), "''");
}

TEST(SocketAddress, survives_the_kernel) {
    Socket v4(AF_INET, SOCK_STREAM);
    v4.bind(local());
    SocketAddress bound = v4.getsockname();
    EXPECT_EQ(bound.host, "127.0.0.1");
    EXPECT_GT(bound.port, 0);
    EXPECT_EQ(v4.family(), AF_INET);
    EXPECT_EQ(v4.type(), SOCK_STREAM);

    // An empty host is every interface.
    Socket any(AF_INET, SOCK_DGRAM);
    any.bind({});
    EXPECT_EQ(any.getsockname().host, "0.0.0.0");
    EXPECT_EQ(any.type(), SOCK_DGRAM);
}

TEST(SocketAddress, of_ipv6_keeps_its_scope) {
    Socket v6(AF_INET6, SOCK_DGRAM);
    v6.bind({"::1"});
    EXPECT_EQ(v6.getsockname().host, "::1");
    EXPECT_EQ(v6.getsockname().scope_id, 0u);
    // A link-local address means nothing without its interface; there is none with this number.
    Socket scoped(AF_INET6, SOCK_DGRAM);
    EXPECT_EQ(thrown_by([&] { scoped.bind({"fe80::1", 0, 0, 4'000'000}); }),
              "OSError: [Errno 19] No such device");
    EXPECT_THROW(scoped.bind({"127.0.0.1"}), ValueError);
}

TEST(SocketAddress, that_is_no_address_is_a_value_error) {
    Socket socket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(thrown_by([&] { socket.bind({"localhost"}); }),
              "ValueError: 'localhost' is not a numeric address of the socket's family");
    EXPECT_EQ(thrown_by([&] { socket.bind({"::1"}); }),
              "ValueError: '::1' is not a numeric address of the socket's family");
    for (int port : {-1, 65536, 1 << 20}) EXPECT_THROW(socket.bind(local(port)), ValueError) << port;
    Socket path(AF_UNIX, SOCK_STREAM);
    EXPECT_EQ(thrown_by([&] { path.bind({std::string(200, 'x')}); }), "ValueError: AF_UNIX path too long");
}

TEST(SocketAddress, of_unix_is_a_path_an_abstract_name_or_chosen_by_the_kernel) {
    support::TemporaryDirectory directory;
    Socket path(AF_UNIX, SOCK_STREAM);
    path.bind({directory.path("socket")});
    EXPECT_EQ(path.getsockname().host, directory.path("socket"));
    EXPECT_EQ(path.getsockname().port, 0);

    // A NUL inside is part of the name, and so is every byte up to the last that the kernel has room for.
    for (std::size_t size : {std::size_t{1}, std::size_t{20}, std::size_t{106}, std::size_t{107}}) {
        std::string name("\0coil-test-", 11);
        name += std::to_string(::getpid());
        name.resize(1 + size, '\0');
        Socket abstract(AF_UNIX, SOCK_DGRAM);
        abstract.bind({name});
        EXPECT_EQ(abstract.getsockname().host, name) << size;
    }

    Socket chosen(AF_UNIX, SOCK_DGRAM);
    EXPECT_EQ(chosen.getsockname().host, "");
    chosen.bind({});
    EXPECT_EQ(chosen.getsockname().host.size(), 6u);
    EXPECT_EQ(chosen.getsockname().host.front(), '\0');
}

TEST(Socket, is_nonblocking_not_inherited_and_moves) {
    std::size_t fds = support::open_fds();
    {
        Socket none;
        EXPECT_FALSE(none);
        EXPECT_EQ(none.fileno(), -1);
        none.close();
        Socket socket(AF_INET, SOCK_STREAM);
        EXPECT_TRUE(socket);
        EXPECT_TRUE(::fcntl(socket.fileno(), F_GETFL) & O_NONBLOCK);
        EXPECT_TRUE(::fcntl(socket.fileno(), F_GETFD) & FD_CLOEXEC);
        int fd = socket.fileno();
        Socket moved = std::move(socket);
        EXPECT_EQ(moved.fileno(), fd);
        EXPECT_FALSE(socket);  // NOLINT(bugprone-use-after-move): that it is empty is the promise
        auto [a, b] = Socket::pair();
        EXPECT_TRUE(::fcntl(b.fileno(), F_GETFL) & O_NONBLOCK);
        a = std::move(moved);
        EXPECT_EQ(a.fileno(), fd);
        b.close();
        b.close();
        EXPECT_FALSE(b);
    }
    EXPECT_EQ(support::open_fds(), fds);
}

TEST(Socket, adopts_and_detaches) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    Socket other = Socket::adopt(ends[1]);
    int detached = -1;
    {
        Socket taken = Socket::adopt(ends[0]);
        EXPECT_TRUE(::fcntl(ends[0], F_GETFL) & O_NONBLOCK);
        detached = taken.detach();
        EXPECT_FALSE(taken);
    }
    EXPECT_EQ(detached, ends[0]);
    EXPECT_GE(::fcntl(detached, F_GETFL), 0) << "detached, and closed nevertheless";
    ::close(detached);
    EXPECT_EQ(thrown_by([&] { Socket::adopt(detached); }), "OSError: [Errno 9] Bad file descriptor");
}

TEST(Socket, errors_of_the_kernel_are_os_errors) {
    Socket none;
    EXPECT_EQ(thrown_by([&] { none.getsockname(); }), "OSError: [Errno 9] Bad file descriptor");
    EXPECT_EQ(thrown_by([&] { none.listen(); }), "OSError: [Errno 9] Bad file descriptor");
    Socket socket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(thrown_by([&] { socket.getpeername(); }),
              "OSError: [Errno 107] Transport endpoint is not connected");
    EXPECT_EQ(thrown_by([&] { socket.shutdown(SHUT_RDWR); }),
              "OSError: [Errno 107] Transport endpoint is not connected");
    EXPECT_THROW(socket.getsockopt(SOL_SOCKET, -1), OSError);
    EXPECT_THROW(Socket(AF_INET, 77), OSError);
    Socket taken = listening();
    EXPECT_EQ(thrown_by([&] { socket.bind(taken.getsockname()); }),
              "OSError: [Errno 98] Address already in use");
}

// ---- the loop's methods

class SocketMethods : public support::CountingOnBackend {};
ON_EVERY_BACKEND(SocketMethods);

TEST_P(SocketMethods, connect_accept_send_and_receive) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listening();
        Socket client(AF_INET, SOCK_STREAM);
        auto accepting = create_task(loop.sock_accept(server));
        co_await loop.sock_connect(client, server.getsockname());
        auto [connection, address] = co_await std::move(accepting);
        EXPECT_EQ(address, client.getsockname());
        EXPECT_TRUE(::fcntl(connection.fileno(), F_GETFL) & O_NONBLOCK);
        EXPECT_TRUE(::fcntl(connection.fileno(), F_GETFD) & FD_CLOEXEC);
        co_await loop.sock_sendall(client, "hello");
        EXPECT_EQ(co_await loop.sock_recv(connection, 100), "hello");
        co_await loop.sock_sendall(client, "");
        std::array<std::byte, 3> memory{};
        auto receiving = create_task(loop.sock_recv_into(connection, memory));
        co_await coil::sleep(0s);
        co_await loop.sock_sendall(client, std::string("again"));
        EXPECT_EQ(co_await receiving, 3u);
        EXPECT_EQ(static_cast<char>(memory[2]), 'a');
        EXPECT_EQ(co_await loop.sock_recv(connection, 1), "i");
        EXPECT_EQ(co_await loop.sock_recv(connection, 0), "");
        client.shutdown(SHUT_WR);
        EXPECT_EQ(co_await loop.sock_recv(connection, 100), "n");
        EXPECT_EQ(co_await loop.sock_recv(connection, 100), "");
        EXPECT_EQ(co_await loop.sock_recv(connection, 100), "");
        EXPECT_EQ(co_await loop.sock_recv_into(connection, memory), 0u);
        co_await loop.sock_sendall(connection, "back");
        EXPECT_EQ(co_await loop.sock_recv(client, 100), "back");
    }());
}

TEST_P(SocketMethods, much_data_goes_through_a_peer_that_stalls) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        const std::string data = pattern(5'000'000);
        auto sending = create_task(loop.sock_sendall(a, data));
        std::string got;
        for (int round = 0; got.size() < data.size(); ++round) {
            // Nothing for a while; then a little, or much.
            co_await support::turns(round % 7);
            EXPECT_FALSE(got.empty() && sending.done());
            got += co_await loop.sock_recv(b, round % 3 == 0 ? 1000 : 300'000);
        }
        co_await sending;
        EXPECT_TRUE(got == data);
    }());
}

TEST_P(SocketMethods, both_directions_at_once_from_two_tasks) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        const std::string there = pattern(3'000'000);
        const std::string back = pattern(2'000'001);
        auto send = [&](const Socket& socket, const std::string& data) -> Coro<> {
            co_await loop.sock_sendall(socket, data);
            socket.shutdown(SHUT_WR);
        };
        auto sending = create_task(send(a, there));
        auto answering = create_task(send(b, back));
        auto at_b = create_task(receive_all(loop, b));
        EXPECT_TRUE(co_await receive_all(loop, a) == back);
        EXPECT_TRUE(co_await at_b == there);
        co_await sending;
        co_await answering;
    }());
}

TEST_P(SocketMethods, a_second_waiter_in_the_same_direction_is_a_runtime_error) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        std::string at = std::to_string(a.fileno());
        auto first = create_task(loop.sock_recv(a, 10));
        co_await coil::sleep(0s);
        EXPECT_EQ(
            co_await thrown_by_await(loop.sock_recv(a, 10)),
            "RuntimeError: sock_recv: another task or callback waits already to read from descriptor " + at);
        fill(a);
        auto writer = create_task(loop.sock_sendall(a, "x"));
        co_await coil::sleep(0s);
        EXPECT_EQ(
            co_await thrown_by_await(loop.sock_sendall(a, "y")),
            "RuntimeError: sock_sendall: another task or callback waits already to write to descriptor " +
                at);
        // The first ones are none the worse for it.
        co_await loop.sock_sendall(b, "to the first");
        EXPECT_EQ(co_await first, "to the fir");
        writer.cancel();
        co_await try_await(writer);
        EXPECT_EQ(co_await loop.sock_recv(a, 10), "st");

        loop.add_reader(a, [] {});
        EXPECT_EQ(
            co_await thrown_by_await(loop.sock_recv(a, 10)),
            "RuntimeError: sock_recv: another task or callback waits already to read from descriptor " + at);
        EXPECT_TRUE(loop.remove_reader(a)) << "the refused call has taken the reader away";
    }());
}

TEST_P(SocketMethods, the_descriptor_of_a_transport_is_refused) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        int fd = a.fileno();
        auto [transport, protocol] =
            co_await loop.create_connection([] { return std::make_shared<Protocol>(); }, std::move(a));
        std::string refused =
            "RuntimeError: File descriptor " + std::to_string(fd) + " is used by a transport";
        std::array<std::byte, 3> memory{};
        SocketAddress address = local(9);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv(fd, 1)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv_into(fd, memory)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recvfrom(fd, 1)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recvfrom_into(fd, memory)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendall(fd, "x")), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendall(fd, "")), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendto(fd, "x", address)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(fd, address)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_accept(fd)), refused);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(fd, 0)), refused);
        transport->close();
        co_await coil::sleep(0s);
        co_await coil::sleep(0s);
        EXPECT_FALSE(b.fileno() == fd);
    }());
}

TEST_P(SocketMethods, a_descriptor_that_is_none_is_an_error) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv(-1, 1)),
                  "ValueError: a file descriptor is not negative");
        Socket none;
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendall(none, "x")),
                  "ValueError: a file descriptor is not negative");
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv(1'000'000, 1)),
                  "OSError: [Errno 9] Bad file descriptor");
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC), 0);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv(ends[0], 1)),
                  "OSError: [Errno 88] Socket operation on non-socket");
        ::close(ends[0]);
        ::close(ends[1]);
    }());
}

TEST_P(SocketMethods, on_a_closed_loop_are_errors) {
    auto closed = make_loop();
    closed->close();
    // Started on a loop that runs, for one that is closed.
    run([](EventLoop& loop) -> Coro<> {
        auto [a, b] = Socket::pair();
        std::string text = "RuntimeError: Event loop is closed";
        std::array<std::byte, 3> memory{};
        SocketAddress address = local(9);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv(a, 1)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_recv_into(a, memory)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendall(a, "x")), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendto(a, "x", address)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(a, address)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_accept(a)), text);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, 0)), text);
    }(*closed));
}

TEST_P(SocketMethods, a_loop_that_closes_meanwhile_leaves_nothing_behind) {
    std::size_t fds = support::open_fds();
    long alive = support::Alive::count();
    {
        auto own = make_loop();
        auto wait = [](EventLoop& loop) -> Coro<> {
            support::Alive here;
            auto [a, b] = Socket::pair();
            co_await loop.sock_recv(a, 10);
        };
        auto task = own->create_task(wait(*own));
        support::run_one_turn(*own);
        support::run_one_turn(*own);
        EXPECT_EQ(support::Alive::count(), alive + 1);
        own->set_exception_handler([](EventLoop&, const ExceptionContext&) {});  // of the task that is lost
        own->close();
    }
    EXPECT_EQ(support::Alive::count(), alive);
    EXPECT_EQ(support::open_fds(), fds);
}

// ---- cancellation

/// What happens in a round: the call starts at turn 0, the event comes at one turn and the cancellation at another.
constexpr int TURNS = 5;
constexpr int ROUNDS = TURNS * TURNS * 120;

/// Starts `call()` in each round, cancels it at every distance from `event()`, and gives what completed to `completed`.
template <class Call, class Event, class Completed>
Coro<> cancel_at_every_turn(Call call, Event event, Completed completed) {
    for (int round = 0; round < ROUNDS; ++round) {
        int event_at = round % TURNS;
        int cancel_at = round / TURNS % TURNS;
        auto task = create_task(call());
        for (int turn = 0; turn < TURNS; ++turn) {
            if (round & 1 && turn == event_at) event();
            if (turn == cancel_at) task.cancel();
            if (!(round & 1) && turn == event_at) event();
            co_await coil::sleep(0s);
        }
        auto outcome = co_await try_await(std::move(task));
        if (outcome) {
            completed(std::move(outcome).value());
        } else {
            EXPECT_TRUE(outcome.cancelled()) << support::error_text(outcome.exception());
        }
    }
}

TEST_P(SocketMethods, a_cancelled_receive_has_consumed_nothing) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        std::string sent;
        std::string got;
        int sent_count = 0;
        auto send = [&] {
            std::string number = std::to_string(sent_count++) + " ";
            sent += number;
            EXPECT_EQ(::send(b.fileno(), number.data(), number.size(), MSG_NOSIGNAL),
                      static_cast<ssize_t>(number.size()));
        };
        int completed = 0;
        auto receive = [&] { return loop.sock_recv(a, 1000); };
        auto take = [&](std::string part) {
            got += part;
            ++completed;
        };
        co_await cancel_at_every_turn(receive, send, take);
        EXPECT_GT(completed, 0);
        EXPECT_LT(completed, ROUNDS);

        std::array<std::byte, 1000> memory{};
        int completed_into = 0;
        auto receive_into = [&] { return loop.sock_recv_into(a, memory); };
        auto take_memory = [&](std::size_t size) {
            got.append(reinterpret_cast<const char*>(memory.data()), size);
            ++completed_into;
        };
        co_await cancel_at_every_turn(receive_into, send, take_memory);
        EXPECT_GT(completed_into, 0);
        EXPECT_LT(completed_into, ROUNDS);
        if (got.size() < sent.size()) got += co_await loop.sock_recv(a, 10'000);
        EXPECT_TRUE(got == sent);
        EXPECT_FALSE(loop.remove_reader(a)) << "a cancelled call still watches";
    }());
}

TEST_P(SocketMethods, a_cancelled_receive_of_a_datagram_has_consumed_nothing) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair(AF_UNIX, SOCK_DGRAM);
        int sent = 0;
        std::vector<int> got;
        auto send = [&] {
            std::string number = std::to_string(sent);
            if (::send(b.fileno(), number.data(), number.size(), MSG_NOSIGNAL) > 0) {
                ++sent;
            } else {  // the queue is full: make room
                std::array<char, 20> text{};
                while (::recv(a.fileno(), text.data(), text.size() - 1, 0) > 0) {
                    got.push_back(std::stoi(text.data()));
                    text.fill('\0');
                }
            }
        };
        auto receive = [&] { return loop.sock_recvfrom(a, 20); };
        auto take = [&](std::pair<std::string, SocketAddress> message) {
            got.push_back(std::stoi(message.first));
        };
        co_await cancel_at_every_turn(receive, send, take);
        while (static_cast<int>(got.size()) < sent) {
            auto [text, address] = co_await loop.sock_recvfrom(a, 20);
            got.push_back(std::stoi(text));
        }
        for (int i = 0; i < sent; ++i) EXPECT_EQ(got.at(static_cast<std::size_t>(i)), i);
        EXPECT_FALSE(loop.remove_reader(a));
    }());
}

TEST_P(SocketMethods, a_cancelled_accept_loses_no_connection) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server(AF_UNIX, SOCK_STREAM);
        server.bind({});
        server.listen(4);
        SocketAddress address = server.getsockname();
        int connected = 0;
        int accepted = 0;
        auto accept = [&] { return loop.sock_accept(server); };
        auto connect = [&] {
            sockaddr_storage name{};
            socklen_t size = sizeof name;
            ::getsockname(server.fileno(), reinterpret_cast<sockaddr*>(&name), &size);
            Socket client(AF_UNIX, SOCK_STREAM);
            if (::connect(client.fileno(), reinterpret_cast<sockaddr*>(&name), size) == 0) {
                ++connected;
            } else {  // the queue is full
                for (int fd = ::accept(server.fileno(), nullptr, nullptr); fd >= 0;
                     fd = ::accept(server.fileno(), nullptr, nullptr)) {
                    ++accepted;
                    ::close(fd);
                }
            }
        };
        auto take = [&](std::pair<Socket, SocketAddress> connection) {
            EXPECT_TRUE(connection.first);
            ++accepted;
        };
        co_await cancel_at_every_turn(accept, connect, take);
        while (accepted < connected) {
            auto connection = co_await loop.sock_accept(server);
            ++accepted;
        }
        EXPECT_EQ(accepted, connected);
        EXPECT_GT(connected, ROUNDS / 2);
        EXPECT_FALSE(loop.remove_reader(server));
    }());
}

TEST_P(SocketMethods, a_cancelled_sendall_has_sent_a_prefix) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string data = pattern(600'000);
        bool partly = false;
        for (int round = 0; round < 60; ++round) {
            auto [a, b] = Socket::pair();
            auto task = create_task(loop.sock_sendall(a, data));
            std::string got;
            for (int turn = 0; turn < round % 12; ++turn) {
                co_await coil::sleep(0s);
                std::array<char, 50'000> part;
                ssize_t size = ::recv(b.fileno(), part.data(), part.size(), 0);
                if (size > 0) got.append(part.data(), static_cast<std::size_t>(size));
            }
            task.cancel();
            co_await try_await(task);
            EXPECT_FALSE(loop.remove_writer(a));
            a.shutdown(SHUT_WR);
            got += co_await receive_all(loop, b);
            EXPECT_TRUE(data.starts_with(got)) << round;
            partly = partly || (!got.empty() && got.size() < data.size());
        }
        EXPECT_TRUE(partly);
    }());
}

TEST_P(SocketMethods, a_cancelled_connect_leaves_the_socket_to_its_owner) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        // A full queue of connections keeps the next one waiting.
        Socket server = listening(0);
        SocketAddress address = server.getsockname();
        std::vector<Socket> clients;
        std::vector<Task<>> tasks;
        for (int i = 0; i < 4; ++i) {
            clients.emplace_back(AF_INET, SOCK_STREAM);
            tasks.push_back(create_task(loop.sock_connect(clients.back(), address)));
        }
        co_await coil::sleep(20ms);
        EXPECT_FALSE(tasks.back().done());
        for (auto& task : tasks) task.cancel();
        for (auto& task : tasks) co_await try_await(task);
        EXPECT_TRUE(tasks.back().cancelled());
        EXPECT_FALSE(loop.remove_writer(clients.back()));
        for (int round = 0; round < 1000; ++round) {
            Socket target = listening();
            Socket client(AF_INET, SOCK_STREAM);
            SocketAddress to = target.getsockname();
            auto connecting = create_task(loop.sock_connect(client, to));
            co_await support::turns(round % 4);
            connecting.cancel();
            auto outcome = co_await try_await(connecting);
            EXPECT_TRUE(outcome || outcome.cancelled());
            EXPECT_FALSE(loop.remove_writer(client));
        }
    }());
}

TEST_P(SocketMethods, cancelled_twice_and_during_cleanup) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        std::string after;
        auto stubborn = [&]() -> Coro<> {
            auto first = co_await try_await(loop.sock_recv(a, 10));
            EXPECT_TRUE(first.cancelled());
            auto second = co_await try_await(loop.sock_recv(a, 10));
            EXPECT_TRUE(second.cancelled());
            after = co_await loop.sock_recv(a, 10);
        };
        auto task = create_task(stubborn());
        co_await coil::sleep(0s);
        EXPECT_TRUE(task.cancel());
        EXPECT_TRUE(task.cancel());
        co_await support::turns(3);
        task.cancel();
        co_await support::turns(3);
        co_await loop.sock_sendall(b, "still here");
        co_await task;
        EXPECT_EQ(after, "still here");

        auto unstarted = create_task(loop.sock_recv(a, 10));
        unstarted.cancel();
        co_await try_await(unstarted);
        EXPECT_TRUE(unstarted.cancelled());
    }());
}

TEST_P(SocketMethods, a_time_limit_ends_a_wait) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        EXPECT_EQ(co_await thrown_by_await(wait_for(loop.sock_recv(a, 10), 1ms)), "TimeoutError: timed out");
        EXPECT_FALSE(loop.remove_reader(a));
        co_await loop.sock_sendall(b, "x");
        EXPECT_EQ(co_await wait_for(loop.sock_recv(a, 10), 10s), "x");
    }());
}

// ---- connecting

TEST_P(SocketMethods, connect_refused_unreachable_and_twice) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        SocketAddress nobody;
        {
            Socket gone = listening();
            nobody = gone.getsockname();
        }
        Socket client(AF_INET, SOCK_STREAM);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(client, nobody)),
                  "ConnectionRefusedError: [Errno 111] Connect call failed " + to_string(nobody));
        EXPECT_FALSE(loop.remove_writer(client));

        // A multicast group is nothing that TCP connects to.
        Socket other(AF_INET, SOCK_STREAM);
        SocketAddress group{"224.0.0.1", 80};
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(other, group)),
                  "OSError: [Errno 101] Connect call failed ('224.0.0.1', 80)");

        Socket server = listening();
        SocketAddress address = server.getsockname();
        Socket twice(AF_INET, SOCK_STREAM);
        co_await loop.sock_connect(twice, address);
        // To the kernel the first call after a connect that took its time is the one that reports it.
        co_await loop.sock_connect(twice, address);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(twice, address)),
                  "OSError: [Errno 106] Connect call failed " + to_string(address));
        SocketAddress bad = local(70'000);
        Socket fresh(AF_INET, SOCK_STREAM);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(fresh, bad)),
                  "ValueError: a port is 0 to 65535, not 70000");
    }());
}

TEST_P(SocketMethods, connect_resolves_names) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listening();
        Socket client(AF_INET, SOCK_STREAM);
        SocketAddress name{"localhost", server.getsockname().port};
        co_await loop.sock_connect(client, name);
        EXPECT_EQ(client.getpeername(), server.getsockname());
        SocketAddress unknown{"no-such-host.invalid", 80};
        Socket other(AF_INET, SOCK_STREAM);
        auto failed = co_await try_await(loop.sock_connect(other, unknown));
        EXPECT_THROW(failed.value(), GaiError);
    }());
}

TEST_P(SocketMethods, connect_to_unix_sockets) {
    support::TemporaryDirectory directory;
    run([](const support::TemporaryDirectory& place) -> Coro<> {
        EventLoop& loop = get_running_loop();
        SocketAddress path{place.path("socket")};
        Socket client(AF_UNIX, SOCK_STREAM);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(client, path)),
                  "FileNotFoundError: [Errno 2] Connect call failed " + to_string(path));
        Socket server(AF_UNIX, SOCK_STREAM);
        server.bind(path);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_connect(client, path)),
                  "ConnectionRefusedError: [Errno 111] Connect call failed " + to_string(path));
        server.listen(0);
        co_await loop.sock_connect(client, path);
        auto accepted = co_await loop.sock_accept(server);
        EXPECT_EQ(accepted.second.host, "");
        co_await loop.sock_sendall(client, "x");
        EXPECT_EQ(co_await loop.sock_recv(accepted.first, 10), "x");

        // A full queue is an error, not a wait: the kernel tells nobody when there is room.
        std::vector<Socket> waiting;
        std::string error;
        for (int i = 0; i < 10 && error.empty(); ++i) {
            waiting.emplace_back(AF_UNIX, SOCK_STREAM);
            auto outcome = co_await try_await(loop.sock_connect(waiting.back(), path));
            if (!outcome) error = support::error_text(outcome.exception());
        }
        EXPECT_EQ(error, "BlockingIOError: [Errno 11] Connect call failed " + to_string(path));
    }(directory));
}

// ---- errors of a connection

TEST_P(SocketMethods, a_reset_wakes_who_waits) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket server = listening();
        Socket client(AF_INET, SOCK_STREAM);
        co_await loop.sock_connect(client, server.getsockname());
        auto [connection, address] = co_await loop.sock_accept(server);
        auto receiving = create_task(thrown_by_await(loop.sock_recv(client, 10)));
        co_await support::turns(2);
        support::close_hard(connection);
        connection.close();
        EXPECT_EQ(co_await receiving, "ConnectionResetError: [Errno 104] Connection reset by peer");
        EXPECT_EQ(co_await loop.sock_recv(client, 10), "");
    }());
}

TEST_P(SocketMethods, a_peer_that_goes_wakes_who_sends) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        const std::string data = pattern(2'000'000);
        auto sending = create_task(thrown_by_await(loop.sock_sendall(a, data)));
        co_await support::turns(3);
        EXPECT_FALSE(sending.done());
        b.close();
        std::string error = co_await sending;
        EXPECT_TRUE(error.starts_with("BrokenPipeError: [Errno 32]") ||
                    error.starts_with("ConnectionResetError: [Errno 104]"))
            << error;
    }());
}

TEST_P(SocketMethods, raise_no_sigpipe) {
    auto result = support::in_child([this] {
        // SIGPIPE has its default action: one would kill this process.
        return coil::run(
            [](support::OnBackend&) -> Coro<int> {
                EventLoop& loop = get_running_loop();
                auto [a, b] = Socket::pair();
                b.close();
                bool all = true;
                for (int i = 0; i < 3; ++i) {
                    auto outcome = co_await try_await(loop.sock_sendall(a, "x"));
                    all = all && support::error_text(outcome.exception()) ==
                                     "BrokenPipeError: [Errno 32] Broken pipe";
                }
                int file = ::memfd_create("file", 0);
                all = all && ::write(file, "data", 4) == 4;
                auto outcome = co_await try_await(loop.sock_sendfile(a, file));
                all = all &&
                      support::error_text(outcome.exception()) == "BrokenPipeError: [Errno 32] Broken pipe";
                ::close(file);
                co_return all ? 0 : 1;
            }(*this),
            {.loop_factory = factory()});
    });
    EXPECT_EQ(result.signal, 0);
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

// ---- datagrams

TEST_P(SocketMethods, datagrams_with_their_addresses) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket a(AF_INET, SOCK_DGRAM);
        Socket b(AF_INET, SOCK_DGRAM);
        a.bind(local());
        b.bind(local());
        SocketAddress to_b = b.getsockname();
        auto receiving = create_task(loop.sock_recvfrom(b, 100));
        co_await coil::sleep(0s);
        EXPECT_EQ(co_await loop.sock_sendto(a, "message", to_b), 7u);
        auto [data, from] = co_await receiving;
        EXPECT_EQ(data, "message");
        EXPECT_EQ(from, a.getsockname());

        // Empty ones are messages too; a long one is cut.
        EXPECT_EQ(co_await loop.sock_sendto(a, "", to_b), 0u);
        auto [nothing, same] = co_await loop.sock_recvfrom(b, 100);
        EXPECT_EQ(nothing, "");
        EXPECT_EQ(same, from);
        co_await loop.sock_sendto(a, "0123456789", to_b);
        EXPECT_EQ((co_await loop.sock_recvfrom(b, 4)).first, "0123");

        std::array<std::byte, 8> memory{};
        co_await loop.sock_sendto(a, "0123456789", to_b);
        auto [size, sender] = co_await loop.sock_recvfrom_into(b, memory, 3);
        EXPECT_EQ(size, 3u);
        EXPECT_EQ(sender, a.getsockname());
        EXPECT_EQ(static_cast<char>(memory[3]), '\0');
        co_await loop.sock_sendto(a, "0123456789", to_b);
        EXPECT_EQ((co_await loop.sock_recvfrom_into(b, memory)).first, 8u);
        EXPECT_EQ(thrown_by([&] { return loop.sock_recvfrom_into(b, memory, 9); }),
                  "ValueError: size is larger than the buffer");

        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendto(a, std::string(70'000, 'x'), to_b)),
                  "OSError: [Errno 90] Message too long");
        SocketAddress name{"localhost", 9};
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendto(a, "x", name)),
                  "ValueError: 'localhost' is not a numeric address of the socket's family");
    }());
}

TEST_P(SocketMethods, an_unnamed_unix_peer_has_an_empty_address) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket a(AF_UNIX, SOCK_DGRAM);
        a.bind({});
        Socket unnamed(AF_UNIX, SOCK_DGRAM);
        SocketAddress to = a.getsockname();
        co_await loop.sock_sendto(unnamed, "x", to);
        auto [data, from] = co_await loop.sock_recvfrom(a, 10);
        EXPECT_EQ(data, "x");
        EXPECT_EQ(from, SocketAddress{});
    }());
}

TEST_P(SocketMethods, a_connected_datagram_socket_hears_that_nobody_listens) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        Socket a(AF_INET, SOCK_DGRAM);
        SocketAddress nobody;
        {
            Socket gone(AF_INET, SOCK_DGRAM);
            gone.bind(local());
            nobody = gone.getsockname();
        }
        co_await loop.sock_connect(a, nobody);
        auto receiving = create_task(thrown_by_await(loop.sock_recv(a, 10)));
        co_await support::turns(2);
        co_await loop.sock_sendall(a, "x");
        EXPECT_EQ(co_await receiving, "ConnectionRefusedError: [Errno 111] Connection refused");
    }());
}

// ---- files

TEST_P(SocketMethods, sendfile_sends_what_was_asked_and_moves_the_position) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        const std::string data = pattern(3'000'000);
        MemoryFile file(data);
        auto receiving = create_task(receive_all(loop, b));
        EXPECT_EQ(co_await loop.sock_sendfile(a, file.fileno()), data.size());
        EXPECT_EQ(file.position(), 3'000'000);
        EXPECT_EQ(co_await loop.sock_sendfile(a, file.fileno(), 10, 5), 5u);
        EXPECT_EQ(file.position(), 15);
        EXPECT_EQ(co_await loop.sock_sendfile(a, file.fileno(), 2'999'999, 100), 1u);
        EXPECT_EQ(file.position(), 3'000'000);
        EXPECT_EQ(co_await loop.sock_sendfile(a, file.fileno(), 5'000'000), 0u);
        a.shutdown(SHUT_WR);
        EXPECT_TRUE(co_await receiving == data + data.substr(10, 5) + data.back());

        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, file.fileno(), -1)),
                  "ValueError: offset must be a non-negative integer");
        for (int count : {0, -1}) {
            EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, file.fileno(), 0, count)),
                      "ValueError: count must be a positive integer");
        }
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, 1'000'000)),
                  "OSError: [Errno 9] Bad file descriptor");
        Socket datagram(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(datagram, file.fileno())),
                  "ValueError: only SOCK_STREAM type sockets are supported");
    }());
}

TEST_P(SocketMethods, sendfile_leaves_the_position_behind_what_was_sent_when_it_fails) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string data = pattern(3'000'000);
        for (bool cancel : {false, true}) {
            MemoryFile file(data);
            auto [a, b] = Socket::pair();
            auto sending = create_task(loop.sock_sendfile(a, file.fileno(), 1000));
            co_await support::turns(3);
            EXPECT_FALSE(sending.done());
            std::string got = co_await loop.sock_recv(b, 30'000);
            co_await support::turns(3);
            if (cancel) {
                sending.cancel();
                co_await try_await(sending);
                EXPECT_TRUE(sending.cancelled());
                a.shutdown(SHUT_WR);
                got += co_await receive_all(loop, b);
                EXPECT_EQ(file.position(), static_cast<off_t>(1000 + got.size()));
                EXPECT_TRUE(data.substr(1000, got.size()) == got);
            } else {
                b.close();
                auto outcome = co_await try_await(sending);
                EXPECT_THROW(outcome.value(), OSError);
                EXPECT_GT(file.position(), 1000);
                EXPECT_LT(file.position(), 3'000'000);
            }
            EXPECT_FALSE(loop.remove_writer(a));
        }
    }());
}

/// This process's memory is a file that can be read at a place, but not sent by sendfile().
class OwnMemory {
  public:
    OwnMemory() : fd_(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC)) { EXPECT_GE(fd_, 0); }
    ~OwnMemory() { ::close(fd_); }
    OwnMemory(const OwnMemory&) = delete;
    OwnMemory& operator=(const OwnMemory&) = delete;
    int fileno() const { return fd_; }
    off_t position() const { return ::lseek(fd_, 0, SEEK_CUR); }
    static std::int64_t place_of(const void* memory) {
        return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(memory));
    }

  private:
    int fd_;
};

TEST_P(SocketMethods, sendfile_reads_and_writes_where_the_kernel_cannot) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        constexpr std::size_t SIZE = 1'500'000;
        const std::string data = pattern(SIZE);
        // Of this file the kernel knows no places above 2 GiB for sendfile: another error than that of a low place.
        constexpr std::uintptr_t HINT = 0x2000'0000;
        void* low = ::mmap(reinterpret_cast<void*>(HINT), SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        EXPECT_NE(low, MAP_FAILED);
        if (low == MAP_FAILED) co_return;
        std::memcpy(low, data.data(), SIZE);
        struct Case {
            const void* memory;
            const char* reason;
        };
        const std::array<Case, 2> cases{Case{low, "Invalid argument"},
                                        Case{data.data(), "Value too large for defined data type"}};
        for (const Case& one : cases) {
            OwnMemory memory;
            std::int64_t place = OwnMemory::place_of(one.memory);
            auto count = static_cast<std::int64_t>(SIZE);
            auto [a, b] = Socket::pair();
            SendfileOptions strict{.fallback = false};
            EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, memory.fileno(), place, count, strict)),
                      "SendfileNotAvailableError: the kernel cannot send this file by sendfile(): " +
                          std::string(one.reason));
            auto receiving = create_task(receive_all(loop, b));
            EXPECT_EQ(co_await loop.sock_sendfile(a, memory.fileno(), place, count), SIZE);
            a.shutdown(SHUT_WR);
            EXPECT_TRUE(co_await receiving == data);
            EXPECT_EQ(memory.position(), place + count);
        }
        ::munmap(low, SIZE);
    }());
}

TEST_P(SocketMethods, sendfile_sends_files_that_say_they_are_empty) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        // The kernel sends the first by itself, the second not.
        for (const char* path : {"/proc/self/limits", "/proc/self/cmdline"}) {
            std::string expected = co_await read_bytes(path);
            EXPECT_FALSE(expected.empty());
            int file = ::open(path, O_RDONLY | O_CLOEXEC);
            auto [a, b] = Socket::pair();
            EXPECT_EQ(co_await loop.sock_sendfile(a, file), expected.size()) << path;
            EXPECT_EQ(co_await loop.sock_sendfile(a, file, 3, 5), 5u) << path;
            EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 8);
            a.shutdown(SHUT_WR);
            EXPECT_EQ(co_await receive_all(loop, b), expected + expected.substr(3, 5)) << path;
            ::close(file);
        }
    }());
}

TEST_P(SocketMethods, sendfile_cancelled_at_any_time_leaves_the_position_behind_what_was_sent) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string data = pattern(3'000'000);
        std::int64_t place = OwnMemory::place_of(data.data());
        auto count = static_cast<std::int64_t>(data.size());
        for (int round = 0; round < 60; ++round) {
            OwnMemory memory;
            auto [a, b] = Socket::pair();
            auto sending = create_task(loop.sock_sendfile(a, memory.fileno(), place, count));
            std::string got;
            for (int i = 0; i < round % 7; ++i) got += co_await loop.sock_recv(b, 100'000);
            co_await support::turns(round % 5);
            EXPECT_TRUE(sending.cancel());
            co_await try_await(sending);
            EXPECT_TRUE(sending.cancelled());
            a.shutdown(SHUT_WR);
            got += co_await receive_all(loop, b);
            EXPECT_TRUE(data.starts_with(got));
            if (!got.empty()) {
                EXPECT_EQ(memory.position(), place + static_cast<std::int64_t>(got.size()));
            }
        }
    }());
}

TEST_P(SocketMethods, a_loop_that_closes_while_a_file_is_read_leaves_nothing_behind) {
    std::size_t fds = support::open_fds();
    long alive = support::Alive::count();
    const std::string data = pattern(3'000'000);
    {
        OwnMemory memory;
        for (int round = 0; round < 40; ++round) {
            auto own = make_loop();
            own->set_exception_handler(
                [](EventLoop&, const ExceptionContext&) {});  // of the task that is lost
            auto send = [](EventLoop& loop, int file, const std::string& text) -> Coro<> {
                support::Alive here;
                auto [a, b] = Socket::pair();
                auto count = static_cast<std::int64_t>(text.size());
                co_await loop.sock_sendfile(a, file, OwnMemory::place_of(text.data()), count);
            };
            auto task = own->create_task(send(*own, memory.fileno(), data));
            for (int turn = 0; turn < 1 + round % 8; ++turn) support::run_one_turn(*own);
            EXPECT_EQ(support::Alive::count(), alive + 1);
            own->close();
        }
    }
    EXPECT_EQ(support::Alive::count(), alive);
    EXPECT_EQ(support::open_fds(), fds);
}

TEST_P(SocketMethods, sendfile_does_not_read_in_the_loops_thread) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        // All threads that the loop may have, before the filter, which holds for those that come later.
        std::size_t threads = detail::WorkerPool::default_threads();
        auto all_there = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(threads));
        std::vector<Coro<>> jobs;
        for (std::size_t i = 0; i < threads; ++i) {
            auto meet = [all_there] { all_there->arrive_and_wait(); };
            jobs.push_back(detail::in_worker("meet", std::move(meet)));
        }
        co_await gather(std::move(jobs));
        const std::string data = pattern(1'000'000);
        OwnMemory memory;
        std::int64_t place = OwnMemory::place_of(data.data());
        auto count = static_cast<std::int64_t>(data.size());
        if (!support::forbid_call(SYS_pread64, EIO)) co_return false;
        char byte = 0;
        EXPECT_EQ(::pread(memory.fileno(), &byte, 1, place), -1);
        auto [a, b] = Socket::pair();
        auto receiving = create_task(receive_all(loop, b));
        EXPECT_EQ(co_await loop.sock_sendfile(a, memory.fileno(), place, count), data.size());
        a.shutdown(SHUT_WR);
        EXPECT_TRUE(co_await receiving == data);
        co_return true;
    });
}

TEST_P(SocketMethods, sendfile_of_what_has_no_places_is_an_error_and_takes_nothing) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        auto [a, b] = Socket::pair();
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        SendfileOptions strict{.fallback = false};
        for (bool empty : {true, false}) {
            if (!empty) {
                EXPECT_EQ(::write(ends[1], "abc", 3), 3);
            }
            EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(a, ends[0])),
                      "OSError: [Errno 29] Illegal seek");
            EXPECT_EQ(
                co_await thrown_by_await(loop.sock_sendfile(a, ends[0], 0, {}, strict)),
                "SendfileNotAvailableError: the kernel cannot send this file by sendfile(): Illegal seek");
        }
        std::array<char, 4> text{};
        EXPECT_EQ(::read(ends[0], text.data(), text.size()), 3);
        ::close(ends[0]);
        ::close(ends[1]);
    }());
}

TEST_P(SocketMethods, sendfile_to_a_socket_that_takes_nothing_fails_by_hand) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string data = pattern(1000);
        MemoryFile file(data);
        Socket unconnected(AF_INET, SOCK_STREAM);
        SendfileOptions strict{.fallback = false};
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(unconnected, file.fileno(), 0, {}, strict)),
                  "SendfileNotAvailableError: the kernel cannot send this file by sendfile(): Broken pipe");
        EXPECT_EQ(co_await thrown_by_await(loop.sock_sendfile(unconnected, file.fileno())),
                  "BrokenPipeError: [Errno 32] Broken pipe");
    }());
}

TEST_P(SocketMethods, sendfile_to_a_socket_that_is_no_longer_connected_is_a_connection_error) {
    run_in_child([]() -> Coro<bool> {
        EventLoop& loop = get_running_loop();
        const std::string data = pattern(3'000'000);
        MemoryFile file(data);
        auto [a, b] = Socket::pair();
        auto sending = create_task(thrown_by_await(loop.sock_sendfile(a, file.fileno())));
        co_await support::turns(3);
        EXPECT_FALSE(sending.done());
        if (!support::forbid_call(SYS_sendfile, ENOTCONN)) co_return false;
        auto receiving = create_task(receive_all(loop, b));
        EXPECT_EQ(co_await sending, "ConnectionError: [Errno 107] socket is not connected");
        a.close();
        EXPECT_EQ(static_cast<off_t>((co_await receiving).size()), file.position());
        co_return true;
    });
}

TEST_P(SocketMethods, a_reset_wakes_who_sends) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        const std::string data(20'000'000, 'x');
        auto count = static_cast<std::int64_t>(data.size());
        MemoryFile file(data);
        OwnMemory memory;
        for (int how = 0; how < 3; ++how) {
            auto [a, b] = co_await tcp_pair();
            auto send = [&](int socket) -> Coro<> {
                if (how == 0) co_await loop.sock_sendall(socket, data);
                if (how == 1) co_await loop.sock_sendfile(socket, file.fileno());
                if (how == 2)
                    co_await loop.sock_sendfile(socket, memory.fileno(), OwnMemory::place_of(data.data()),
                                                count);
            };
            auto sending = create_task(thrown_by_await(send(a.fileno())));
            // In the middle: something has arrived.
            EXPECT_EQ(co_await loop.sock_recv(b, 1), "x");
            EXPECT_FALSE(sending.done());
            support::close_hard(b);
            b.close();
            std::string error = co_await sending;
            EXPECT_TRUE(error == "ConnectionResetError: [Errno 104] Connection reset by peer" ||
                        error == "BrokenPipeError: [Errno 32] Broken pipe")
                << how << ": " << error;
        }
    }());
}

// ---- scopes

/// In a child: a network of its own, where the loopback interface has the address fe80::1. Its number; 0 if that is forbidden.
unsigned network_with_a_link() {
    if (::unshare(CLONE_NEWNET) < 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) return 0;
    int fd = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    ifreq interface{};
    std::strcpy(interface.ifr_name, "lo");
    interface.ifr_flags = IFF_UP;
    bool good = ::ioctl(fd, SIOCSIFFLAGS, &interface) == 0;
    struct {  // struct in6_ifreq, whose header does not go together with netinet/in.h
        in6_addr address;
        std::uint32_t prefix = 64;
        int index = 0;
    } link{};
    link.index = static_cast<int>(::if_nametoindex("lo"));
    ::inet_pton(AF_INET6, "fe80::1", &link.address);
    good = good && ::ioctl(fd, SIOCSIFADDR, &link) == 0;
    // The kernel takes its time to make sure that the address is ours alone.
    sockaddr_in6 own{};
    own.sin6_family = AF_INET6;
    own.sin6_addr = link.address;
    own.sin6_scope_id = static_cast<std::uint32_t>(link.index);
    for (int i = 0; good && ::bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own) < 0; ++i) {
        good = errno == EADDRNOTAVAIL && i < 10'000;
        ::usleep(1000);
    }
    ::close(fd);
    return good ? static_cast<unsigned>(link.index) : 0;
}

TEST_P(SocketMethods, addresses_of_a_link_keep_their_scope) {
    run_in_child([]() -> Coro<bool> {
        unsigned number = network_with_a_link();
        if (number == 0) co_return false;
        EventLoop& loop = get_running_loop();
        SocketAddress any{"fe80::1", 0, 0, number};
        Socket server(AF_INET6, SOCK_STREAM);
        server.bind(any);
        server.listen();
        SocketAddress bound = server.getsockname();
        EXPECT_EQ(to_string(bound),
                  "('fe80::1', " + std::to_string(bound.port) + ", 0, " + std::to_string(number) + ")");
        SocketAddress named{"fe80::1%lo", bound.port};
        for (const SocketAddress& target : {bound, named}) {
            Socket client(AF_INET6, SOCK_STREAM);
            co_await loop.sock_connect(client, target);
            EXPECT_EQ(client.getpeername(), bound);
            auto [connection, from] = co_await loop.sock_accept(server);
            EXPECT_EQ(from, client.getsockname());
            EXPECT_EQ(from, connection.getpeername());
            EXPECT_EQ(from.scope_id, number);
        }
        Socket telling(AF_INET6, SOCK_DGRAM);
        Socket hearing(AF_INET6, SOCK_DGRAM);
        telling.bind(any);
        hearing.bind(any);
        SocketAddress target = hearing.getsockname();
        co_await loop.sock_sendto(telling, "x", target);
        auto [data, sender] = co_await loop.sock_recvfrom(hearing, 10);
        EXPECT_EQ(sender, telling.getsockname());
        // As options.
        auto plain = [] { return std::make_shared<Protocol>(); };
        Server listener = co_await loop.create_server(plain, "fe80::1%lo", 0);
        SocketAddress at = listener.sockets().at(0).getsockname();
        EXPECT_EQ(at.scope_id, number);
        ConnectionOptions by_address{.local_addr = any};
        ConnectionOptions by_name{.local_addr = {"fe80::1%lo", 0}};
        for (const ConnectionOptions& from : {by_address, by_name}) {
            auto [transport, protocol] = co_await loop.create_connection(plain, "fe80::1%lo", at.port, from);
            EXPECT_EQ(std::any_cast<SocketAddress>(transport->get_extra_info("peername")), at);
            transport->abort();
        }
        listener.close();
        auto silent = [] { return std::make_shared<DatagramProtocol>(); };
        DatagramOptions here{.local_addr = any};
        auto [first, one] = co_await loop.create_datagram_endpoint(silent, here);
        auto heard_at = std::any_cast<SocketAddress>(first->get_extra_info("sockname"));
        EXPECT_EQ(heard_at.scope_id, number);
        DatagramOptions there{.remote_addr = heard_at};
        auto [second, two] = co_await loop.create_datagram_endpoint(silent, there);
        EXPECT_EQ(std::any_cast<SocketAddress>(second->get_extra_info("peername")), heard_at);
        first->abort();
        second->abort();
        co_return true;
    });
}

}  // namespace
