// Transport and protocol: the order of the callbacks on a TCP connection, each side's own.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <vector>

#include "scenario.hpp"

namespace conformance {

namespace {

class Side : public coil::Protocol {
  public:
    Coro<> lost() { co_await lost_; }
    std::vector<std::string> log;

    void connection_made(std::shared_ptr<coil::Transport> transport) override {
        transport_ = transport;
        log.push_back(fmt::format("made, closing {}", yn(transport->is_closing())));
    }
    void connection_lost(std::exception_ptr error) override {
        log.push_back(error ? "lost error" : "lost none");
        lost_.set_result();
    }

  protected:
    std::shared_ptr<coil::Transport> transport_;
    coil::Future<> lost_ = coil::get_running_loop().create_future();
};

class ServerSide final : public Side {
  public:
    void data_received(std::string_view data) override {
        log.push_back("data " + std::string(data));
        transport_->write("pong");
    }
    bool eof_received() override {
        log.push_back("eof");
        transport_->write("bye");
        return false;  // the transport closes itself
    }
};

class ClientSide final : public Side {
  public:
    void data_received(std::string_view data) override {
        log.push_back("data " + std::string(data));
        if (data == "pong") transport_->write_eof();
    }
};

Coro<> main() {
    auto& loop = coil::get_running_loop();
    auto s = std::make_shared<ServerSide>();
    auto c = std::make_shared<ClientSide>();
    coil::Server server = co_await loop.create_server([&] { return s; }, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    auto [transport, protocol] = co_await loop.create_connection([&] { return c; }, "127.0.0.1", port);
    print("connection_made came before create_connection returned", yn(!c->log.empty()), "| same protocol",
          yn(transport->get_protocol() == protocol && protocol == c));
    transport->write("ping");
    co_await coil::gather(s->lost(), c->lost());
    server.close();
    print("server |", fmt::format("{}", fmt::join(s->log, " | ")));
    print("client |", fmt::format("{}", fmt::join(c->log, " | ")));
}

}  // namespace

SCENARIO("156_protocol_callbacks", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
