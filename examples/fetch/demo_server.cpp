#include "demo_server.hpp"

#include <fmt/format.h>

using coil::Coro;

namespace {

Coro<> send_page(coil::StreamWriter writer, std::string path) {
    const std::string page(10'000, '.');
    if (path == "/sized") {
        writer.write(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.size()));
        writer.write(page);
    } else if (path == "/chunked") {
        writer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 5; ++i) {
            writer.write(fmt::format("{:x}\r\n{}\r\n", page.size(), page));
            co_await writer.drain();
        }
        writer.write("0\r\n\r\n");
    } else if (path == "/slow") {
        writer.write("HTTP/1.0 200 OK\r\n\r\nit takes ");
        co_await coil::sleep(std::chrono::milliseconds(100));
        writer.write("a moment\n");
    } else {
        writer.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    co_await writer.drain();
}

Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
    std::string request = co_await reader.readuntil("\r\n\r\n");
    std::size_t begin = request.find(' ') + 1;
    std::string path = request.substr(begin, request.find(' ', begin) - begin);
    co_await send_page(writer, path);
    writer.close();
    co_await writer.wait_closed();
}

}  // namespace

Coro<coil::Server> start_demo_server() { return coil::start_server(serve, "127.0.0.1", 0); }

std::vector<std::string> demo_urls(const coil::Server& server) {
    int port = server.sockets().front().getsockname().port;
    std::vector<std::string> urls;
    for (const char* path : {"/sized", "/chunked", "/slow"})
        urls.push_back(fmt::format("http://127.0.0.1:{}{}", port, path));
    return urls;
}
