#include "coil/dns.hpp"

#include <gtest/gtest.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "coil/coil.hpp"
#include "support/backends.hpp"
#include "support/errors.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::thrown_by_await;

namespace {

class Names : public support::OnBackend {
  protected:
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};
ON_EVERY_BACKEND(Names);

TEST_P(Names, services_are_numbers_or_names) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions stream{.type = SOCK_STREAM};
        auto by_number = co_await loop.getaddrinfo("127.0.0.1", 80, stream);
        EXPECT_EQ(by_number.size(), 1u);
        EXPECT_EQ(by_number.at(0).family, AF_INET);
        EXPECT_EQ(by_number.at(0).type, SOCK_STREAM);
        EXPECT_EQ(by_number.at(0).proto, IPPROTO_TCP);
        EXPECT_EQ(by_number.at(0).canonname, "");
        EXPECT_EQ(by_number.at(0).address, (SocketAddress{"127.0.0.1", 80}));
        auto by_text = co_await loop.getaddrinfo("127.0.0.1", "8080", stream);
        EXPECT_EQ(by_text.at(0).address.port, 8080);
        // Without a type: one entry for each.
        auto all = co_await loop.getaddrinfo("127.0.0.1", 80);
        EXPECT_GT(all.size(), 1u);
        AddressOptions unknown{.type = SOCK_STREAM, .flags = AI_NUMERICSERV};
        EXPECT_THROW((co_await try_await(loop.getaddrinfo("127.0.0.1", "http", unknown))).value(), GaiError);
    }());
}

TEST_P(Names, families_and_flags) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions v6{.family = AF_INET6, .type = SOCK_STREAM, .flags = AI_NUMERICHOST};
        auto found = co_await loop.getaddrinfo("::1", 1, v6);
        EXPECT_EQ(found.at(0).address.host, "::1");
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("127.0.0.1", 1, v6)),
                  "GaiError: [Errno -9] Address family for hostname not supported");
        AddressOptions mapped{.family = AF_INET6, .type = SOCK_STREAM, .flags = AI_V4MAPPED};
        EXPECT_EQ((co_await loop.getaddrinfo("127.0.0.1", 1, mapped)).at(0).address.host, "::ffff:127.0.0.1");
        AddressOptions passive{.family = AF_INET, .type = SOCK_STREAM, .flags = AI_PASSIVE};
        EXPECT_EQ((co_await loop.getaddrinfo("", 1, passive)).at(0).address.host, "0.0.0.0");
        AddressOptions numeric{.type = SOCK_STREAM, .flags = AI_NUMERICHOST};
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("localhost", 1, numeric)),
                  "GaiError: [Errno -2] Name or service not known");
        AddressOptions canonical{.family = AF_INET, .type = SOCK_STREAM, .flags = AI_CANONNAME};
        EXPECT_EQ((co_await loop.getaddrinfo("localhost", 1, canonical)).at(0).canonname, "localhost");
        EXPECT_EQ((co_await loop.getaddrinfo("127.0.0.1", 1, canonical)).at(0).canonname, "127.0.0.1");
        AddressOptions nonsense{.family = 77};
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("localhost", 1, nonsense)),
                  "GaiError: [Errno -6] ai_family not supported");
    }());
}

TEST_P(Names, of_addresses) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        SocketAddress address{"127.0.0.1", 80};
        auto [host, service] = co_await loop.getnameinfo(address, NI_NUMERICHOST | NI_NUMERICSERV);
        EXPECT_EQ(host, "127.0.0.1");
        EXPECT_EQ(service, "80");
        SocketAddress v6{"::1", 80};
        EXPECT_EQ((co_await loop.getnameinfo(v6, NI_NUMERICHOST | NI_NUMERICSERV)).first, "::1");
        SocketAddress name{"localhost", 80};
        EXPECT_EQ(co_await thrown_by_await(loop.getnameinfo(name)),
                  "ValueError: getnameinfo() needs a numeric address, not 'localhost'");
        SocketAddress port{"127.0.0.1", 70'000};
        EXPECT_EQ(co_await thrown_by_await(loop.getnameinfo(port)),
                  "ValueError: a port is 0 to 65535, not 70000");
    }());
}

TEST_P(Names, of_a_link_have_a_scope) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions numeric{.type = SOCK_STREAM, .flags = AI_NUMERICHOST};
        unsigned scope = ::if_nametoindex("lo");
        SocketAddress expected{"fe80::1", 80, 0, scope};
        for (const std::string& host : {std::string("fe80::1%lo"), "fe80::1%" + std::to_string(scope)}) {
            auto found = co_await loop.getaddrinfo(host, 80, numeric);
            EXPECT_EQ(found.at(0).address, expected);
        }
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("fe80::1%no-such-link", 80, numeric)),
                  "GaiError: [Errno -2] Name or service not known");
        auto names = co_await loop.getnameinfo(expected, NI_NUMERICHOST | NI_NUMERICSERV);
        EXPECT_EQ(names.first, "fe80::1%lo");
    }());
}

TEST_P(Names, many_lookups_at_once_while_others_are_cancelled) {
    run([]() -> Coro<> {
        EventLoop& loop = get_running_loop();
        AddressOptions v4{.family = AF_INET, .type = SOCK_STREAM};
        std::vector<Task<std::vector<AddressInfo>>> lookups;
        for (int i = 0; i < 200; ++i) {
            lookups.push_back(create_task(loop.getaddrinfo("localhost", 1000 + i, v4)));
            if (i % 10 == 0) co_await coil::sleep(0s);
            if (i % 3 == 0) lookups.back().cancel();
        }
        for (std::size_t i = 0; i < lookups.size(); ++i) {
            auto outcome = co_await try_await(lookups[i]);
            if (i % 3 == 0) {
                EXPECT_TRUE(outcome.cancelled());
            } else {
                EXPECT_EQ(outcome.value().at(0).address.port, 1000 + static_cast<int>(i));
            }
        }
    }());
}

TEST_P(Names, lookups_that_run_when_the_loop_closes_are_dropped) {
    for (int round = 0; round < 50; ++round) {
        auto own = make_loop();
        own->set_exception_handler([](EventLoop&, const ExceptionContext&) {});  // of the tasks that are lost
        AddressOptions v4{.family = AF_INET};
        auto task = own->create_task(own->getaddrinfo("localhost", 1, v4));
        for (int i = 0; i < round % 4; ++i) support::run_one_turn(*own);
        own->close();
    }
    auto closed = make_loop();
    closed->close();
    run([](EventLoop& loop) -> Coro<> {
        EXPECT_EQ(co_await thrown_by_await(loop.getaddrinfo("localhost", 1)),
                  "RuntimeError: Event loop is closed");
    }(*closed));
}

}  // namespace
