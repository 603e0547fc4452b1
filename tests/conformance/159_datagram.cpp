// Datagram endpoints: echo, addresses, close.

#include <any>
#include <memory>

#include "scenario.hpp"

namespace conformance {

namespace {

class Echo final : public coil::DatagramProtocol {
  public:
    void connection_made(std::shared_ptr<coil::DatagramTransport> transport) override {
        print("server ready");
        transport_ = transport;
    }
    void datagram_received(std::string_view data, const coil::SocketAddress& address) override {
        print("server got", data.empty() ? "(empty)" : data, "from", address.host);
        transport_->sendto("echo " + std::string(data), address);
    }
    void connection_lost(std::exception_ptr error) override {
        print("server connection_lost", error ? "error" : "none");
        transport_ = nullptr;
    }

  private:
    std::shared_ptr<coil::DatagramTransport> transport_;
};

class Client final : public coil::DatagramProtocol {
  public:
    void datagram_received(std::string_view data, const coil::SocketAddress&) override {
        inbox.put_nowait(std::string(data));
    }
    void connection_lost(std::exception_ptr error) override {
        print("client connection_lost", error ? "error" : "none");
    }
    coil::Queue<std::string> inbox;
};

Coro<> main() {
    auto& loop = coil::get_running_loop();
    auto [server, echo] = co_await loop.create_datagram_endpoint([] { return std::make_shared<Echo>(); },
                                                                 {.local_addr = {"127.0.0.1", 0}});
    auto address = std::any_cast<coil::SocketAddress>(server->get_extra_info("sockname"));
    auto [transport, client] = co_await loop.create_datagram_endpoint(
        [] { return std::make_shared<Client>(); }, {.remote_addr = address});
    for (const char* message : {"one", "two", "three"}) {
        transport->sendto(message);
        print("client got", co_await client->inbox.get());
    }
    try {
        transport->sendto("x", {"127.0.0.1", 1});
    } catch (const coil::ValueError&) {
        print("other address on a connected endpoint -> ValueError");
    }
    transport->close();
    print("closing", yn(transport->is_closing()));
    co_await coil::sleep(10ms);
    server->close();
    co_await coil::sleep(10ms);
}

}  // namespace

SCENARIO("159_datagram", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
