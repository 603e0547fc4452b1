// Unix sockets with streams; several clients served at once.

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "scenario.hpp"

namespace conformance {

namespace {

namespace fs = std::filesystem;

std::string stripped(std::string line) {
    while (line.ends_with('\n')) line.pop_back();
    return line;
}

Coro<> handle(coil::StreamReader reader, coil::StreamWriter writer) {
    std::string name = stripped(co_await reader.readline());
    std::string delay = co_await reader.readline();
    co_await coil::sleep(std::chrono::duration<double>(std::stod(delay)));
    writer.write(fmt::format("hello {}\n", name));
    co_await writer.drain();
    writer.close();
}

Coro<std::size_t> client(std::string path, std::string name, double delay) {
    auto [reader, writer] = co_await coil::open_unix_connection(path);
    std::string first = name + "\n";
    std::string second = fmt::format("{}\n", delay);
    writer.writelines({first, second});
    co_await writer.drain();
    print(stripped(co_await reader.readline()));
    std::string rest = co_await reader.read();
    writer.close();
    co_await writer.wait_closed();
    co_return rest.size();
}

Coro<> main() {
    std::string directory = (fs::temp_directory_path() / "coil_XXXXXX").string();
    if (!::mkdtemp(directory.data())) throw std::runtime_error("mkdtemp failed");
    std::string path = directory + "/sock";
    coil::Server server = co_await coil::start_unix_server(handle, path);
    print("socket file exists", yn(fs::exists(path)));
    auto [slow, fast, middle] = co_await coil::gather(client(path, "slow", 0.27), client(path, "fast", 0.09),
                                                      client(path, "middle", 0.18));
    print("rest", slow, fast, middle);
    server.close();
    co_await server.wait_closed();
    try {
        co_await coil::open_unix_connection(directory + "/missing");
    } catch (const coil::FileNotFoundError&) {
        print("missing -> FileNotFoundError");
    }
    fs::remove_all(directory);
}

}  // namespace

SCENARIO("161_unix_stream", "needs sockets") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
