// Datagrams: a UDP server that sends back what it gets, and a client that asks again when an answer does not come.

#include <any>
#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>

using namespace std::chrono_literals;

// Drops every first attempt, as a bad network might.
class Echo : public coil::DatagramProtocol {
  public:
    void connection_made(std::shared_ptr<coil::DatagramTransport> transport) override {
        transport_ = std::move(transport);
    }
    void datagram_received(std::string_view data, const coil::SocketAddress& from) override {
        if (++received_ % 2 == 1) return;
        transport_->sendto(data, from);
    }

  private:
    std::shared_ptr<coil::DatagramTransport> transport_;
    int received_ = 0;
};

// Hands what arrives to a coroutine.
class Inbox : public coil::DatagramProtocol {
  public:
    coil::Queue<std::string> messages;

    void datagram_received(std::string_view data, const coil::SocketAddress&) override {
        messages.put_nowait(std::string(data));
    }
    void error_received(std::exception_ptr error) override {  // such as: nobody listens there
        fmt::print("error: {}\n", coil::describe_exception(error));
    }
};

coil::Coro<std::string> ask(coil::DatagramTransport& transport, Inbox& inbox, std::string question) {
    for (int attempt = 1; attempt <= 5; ++attempt) {
        transport.sendto(question);
        auto answer = co_await coil::try_await(coil::wait_for(inbox.messages.get(), 50ms));
        if (answer) {
            fmt::print("attempt {}: ", attempt);
            co_return answer.value();
        }
    }
    throw coil::TimeoutError("no answer");
}

coil::Coro<> echo() {
    coil::EventLoop& loop = coil::get_running_loop();
    auto server = co_await loop.create_datagram_endpoint([] { return std::make_shared<Echo>(); },
                                                         {.local_addr = {"127.0.0.1", 0}});
    auto address = std::any_cast<coil::SocketAddress>(server.transport->get_extra_info("sockname"));
    // Connected: it hears this peer only, and sendto() needs no address.
    auto client = co_await loop.create_datagram_endpoint([] { return std::make_shared<Inbox>(); },
                                                         {.remote_addr = address});

    std::string answer = co_await ask(*client.transport, *client.protocol, "one");
    fmt::print("{}\n", answer);
    answer = co_await ask(*client.transport, *client.protocol, "two");
    fmt::print("{}\n", answer);
    client.transport->close();
    server.transport->close();
}

int main() { coil::run(echo()); }
