// Protocols: the loop calls an object when something happens to its connection. An echo server and a client without a
// coroutine per connection; 12_echo_server_and_client.cpp does the same by streams.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <memory>
#include <string>

class Echo : public coil::Protocol {
  public:
    void connection_made(std::shared_ptr<coil::Transport> transport) override {
        transport_ = std::move(transport);  // they let go of each other after connection_lost
    }
    void data_received(std::string_view data) override { transport_->write(data); }
    // Back-pressure: while the client does not take its answers, its questions stay in the kernel.
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

  private:
    std::shared_ptr<coil::Transport> transport_;
};

class Client : public coil::Protocol {
  public:
    explicit Client(std::string message) : message_(std::move(message)) {}

    coil::Future<std::string> answer() const { return answer_; }

    void connection_made(std::shared_ptr<coil::Transport> transport) override {
        transport->write(message_);
        transport->write_eof();
    }
    void data_received(std::string_view data) override { received_ += data; }
    // Always the last call. Null: the stream ended, or somebody called close().
    void connection_lost(std::exception_ptr error) override {
        if (answer_.done()) return;  // who waited for it was cancelled
        if (error) {
            answer_.set_exception(error);
        } else {
            answer_.set_result(std::move(received_));
        }
    }

  private:
    std::string message_;
    std::string received_;
    coil::Future<std::string> answer_ = coil::get_running_loop().create_future<std::string>();
};

coil::Coro<> echo() {
    coil::EventLoop& loop = coil::get_running_loop();
    // The factory makes a protocol for each connection.
    coil::Server server =
        co_await loop.create_server([] { return std::make_shared<Echo>(); }, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;

    auto small = [] { return std::make_shared<Client>("hello"); };
    auto [transport, client] = co_await loop.create_connection(small, "127.0.0.1", port);
    std::string answer = co_await client->answer();
    fmt::print("{}\n", answer);

    auto large = [] { return std::make_shared<Client>(std::string(5'000'000, 'x')); };
    auto [second_transport, second_client] = co_await loop.create_connection(large, "127.0.0.1", port);
    answer = co_await second_client->answer();
    fmt::print("{} bytes\n", answer.size());

    server.close();
    co_await server.wait_closed();
}

int main() { coil::run(echo()); }
