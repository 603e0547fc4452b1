// connect_read_pipe and connect_write_pipe on a pipe of the system.

#include <unistd.h>

#include <array>
#include <memory>
#include <stdexcept>

#include "scenario.hpp"

namespace conformance {

namespace {

class Reader final : public coil::Protocol {
  public:
    void connection_made(std::shared_ptr<coil::Transport>) override { print("read pipe connected"); }
    void data_received(std::string_view data) override { print("pipe data", data); }
    bool eof_received() override {
        print("pipe EOF");
        return false;
    }
    void connection_lost(std::exception_ptr error) override {
        print("read pipe lost", error ? "error" : "none");
        done.set_result();
    }
    coil::Future<> done = coil::get_running_loop().create_future();
};

class Writer final : public coil::Protocol {
  public:
    void connection_made(std::shared_ptr<coil::Transport>) override { print("write pipe connected"); }
    void connection_lost(std::exception_ptr error) override {
        print("write pipe lost", error ? "error" : "none");
    }
};

std::array<int, 2> new_pipe() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) < 0) throw std::runtime_error("pipe failed");
    return ends;
}

Coro<> main() {
    auto& loop = coil::get_running_loop();
    auto [r, w] = new_pipe();
    auto [read_transport, reader] =
        co_await loop.connect_read_pipe([] { return std::make_shared<Reader>(); }, r);
    auto [write_transport, writer] =
        co_await loop.connect_write_pipe([] { return std::make_shared<Writer>(); }, w);
    write_transport->write("one");
    co_await coil::sleep(20ms);
    write_transport->write("two");
    co_await coil::sleep(20ms);
    write_transport->close();
    co_await reader->done;
    print("reader closing", yn(read_transport->is_closing()));

    auto [r2, w2] = new_pipe();
    coil::StreamReader stream;
    co_await loop.connect_read_pipe([&] { return std::make_shared<coil::StreamReaderProtocol>(stream); }, r2);
    if (::write(w2, "line 1\nline 2\n", 14) != 14) throw std::runtime_error("write failed");
    ::close(w2);
    while (auto line = co_await stream.next()) {
        line->pop_back();
        print("stream", *line);
    }
}

}  // namespace

SCENARIO("162_pipes", "needs pipes") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
