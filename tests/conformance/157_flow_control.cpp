// Flow control: pause_writing once above the high mark, resume_writing once at the low mark; pause_reading holds data back.

#include <memory>

#include "scenario.hpp"

namespace conformance {

namespace {

constexpr std::size_t SIZE = 16 * 1024 * 1024;

class Sender final : public coil::Protocol {
  public:
    void connection_made(std::shared_ptr<coil::Transport> transport) override { transport_ = transport; }
    void pause_writing() override { print("pause_writing"); }
    void resume_writing() override {
        print("resume_writing, buffered", transport_->get_write_buffer_size() <= 1000 ? "low" : "high");
        resumed.set_result();
    }
    void connection_lost(std::exception_ptr) override { transport_ = nullptr; }
    coil::Future<> resumed = coil::get_running_loop().create_future();

  private:
    std::shared_ptr<coil::Transport> transport_;
};

class Receiver final : public coil::Protocol {
  public:
    explicit Receiver(coil::Event& all_received) : all_received_(all_received) {}
    void connection_made(std::shared_ptr<coil::Transport> its_transport) override {
        transport = its_transport;
        transport->pause_reading();
        print("receiver reading", yn(transport->is_reading()));
    }
    void data_received(std::string_view data) override {
        total += data.size();
        if (total == SIZE) all_received_.set();
    }
    void connection_lost(std::exception_ptr) override { transport = nullptr; }
    std::shared_ptr<coil::Transport> transport;
    std::size_t total = 0;

  private:
    coil::Event& all_received_;
};

Coro<> main() {
    auto& loop = coil::get_running_loop();
    coil::Event all_received;
    auto receiver = std::make_shared<Receiver>(all_received);
    coil::Server server = co_await loop.create_server([&] { return receiver; }, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    auto [transport, sender] =
        co_await loop.create_connection([] { return std::make_shared<Sender>(); }, "127.0.0.1", port);
    transport->set_write_buffer_limits(4000, 1000);
    auto [low, high] = transport->get_write_buffer_limits();
    print("limits", low, high);
    co_await coil::sleep(20ms);
    std::string data(SIZE, 'x');
    transport->write(data);
    co_await coil::sleep(20ms);
    print("received while paused", receiver->total);
    receiver->transport->resume_reading();
    co_await sender->resumed;
    co_await all_received.wait();
    print("received all", yn(receiver->total == SIZE), "left", transport->get_write_buffer_size());
    transport->close();
    server.close();
    co_await server.wait_closed();
}

}  // namespace

SCENARIO("157_flow_control", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
