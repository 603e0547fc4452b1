// An HTTP client: GETs limited by a semaphore in a TaskGroup, against a small HTTP server on loopback.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "scenario.hpp"

namespace conformance {

static int active = 0;
static int peak = 0;

/// An answer that is not 200.
class HttpError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

static Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
    std::string request = co_await reader.readuntil("\r\n\r\n");
    std::size_t begin = request.find(' ') + 1;
    std::string path = request.substr(begin, request.find(' ', begin) - begin);
    peak = std::max(peak, ++active);
    co_await coil::sleep(30ms);
    --active;
    std::string status = path == "/missing" ? "404 Not Found" : "200 OK";
    std::string body = "body of " + path;
    writer.write(fmt::format("HTTP/1.1 {}\r\nLength: {}\r\n\r\n{}", status, body.size(), body));
    co_await writer.drain();
    writer.close();
}

class Client {
  public:
    Client(int port, std::ptrdiff_t max_concurrent) : port_(port), slots_(max_concurrent) {}

    Coro<std::string> get(std::string path) {
        auto slot = co_await slots_.scoped();
        co_return co_await coil::async_with(coil::timeout(5s), [&] { return exchange(path); });
    }

    Coro<std::vector<std::string>> fetch_all(std::vector<std::string> paths) {
        std::vector<coil::Task<std::string>> tasks;
        co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& tg) -> Coro<> {
            for (const std::string& path : paths) tasks.push_back(tg.create_task(get(path)));
            co_return;
        });
        std::vector<std::string> bodies;
        for (const auto& task : tasks) bodies.push_back(task.result());
        co_return bodies;
    }

  private:
    Coro<std::string> exchange(const std::string& path) {
        auto [reader, writer] = co_await coil::open_connection("127.0.0.1", port_);
        writer.write(fmt::format("GET {} HTTP/1.1\r\n\r\n", path));
        std::string head = co_await reader.readuntil("\r\n\r\n");
        constexpr std::string_view LENGTH = "Length: ";
        std::size_t length = std::stoul(head.substr(head.find(LENGTH) + LENGTH.size()));
        std::string body = co_await reader.readexactly(length);
        writer.close();
        if (head.find(" 200 ") == head.npos) throw HttpError(path);
        co_return body;
    }

    int port_;
    coil::Semaphore slots_;
};

static Coro<> main() {
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", 0);
    Client client(server.sockets().front().getsockname().port, 3);
    std::vector<std::string> paths;
    for (int i = 0; i < 8; ++i) paths.push_back(fmt::format("/page{}", i));
    for (const std::string& body : co_await client.fetch_all(paths)) print(body);
    print("peak concurrency", peak);
    paths = {"/a", "/missing", "/b"};
    try {
        co_await client.fetch_all(paths);
    } catch (const coil::ExceptionGroup& group) {
        auto [errors, others] = group.split<HttpError>();
        print("failed:", texts_of(errors.value()));
        if (others) throw *others;
    }
    server.close();
}

SCENARIO("190_fetch_all", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
