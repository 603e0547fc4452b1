// A chat: what one client says, all others hear. A client that does not read is thrown out: it holds up nobody.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <map>
#include <string>

class Room {
  public:
    coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
        auto first = co_await reader.next();
        if (first) {
            std::string name = first->substr(0, first->find('\n'));
            if (members_.try_emplace(name, writer).second) {
                // However the client leaves: a line that is too long and a broken connection are exceptions.
                auto outcome = co_await coil::try_await(listen(name, std::move(reader)));
                members_.erase(name);
                broadcast(name, "* " + name + " has left\n");
            } else {
                writer.write("* " + name + " is taken\n");
            }
        }
        writer.close();
    }

  private:
    static constexpr std::size_t MOST_UNREAD = 100'000;  // bytes

    coil::Coro<> listen(std::string name, coil::StreamReader reader) {
        broadcast({}, "* " + name + " is here\n");
        while (auto line = co_await reader.next()) broadcast(name, name + ": " + *line);
    }

    void broadcast(const std::string& sender, std::string_view line) {
        for (auto& [name, writer] : members_) {
            if (name == sender) continue;
            writer.write(line);  // never waits
            if (writer.transport()->get_write_buffer_size() > MOST_UNREAD) writer.transport()->abort();
        }
    }

    std::map<std::string, coil::StreamWriter> members_;
};

// ---- the clients, by a script

struct Client {
    std::string name;
    coil::Streams streams;

    void say(std::string_view text) { streams.writer.writelines({text, "\n"}); }
    coil::Coro<> hear() {
        std::string line = co_await streams.reader.readline();
        fmt::print("{:>4} hears  {}", name, line);
    }
};

coil::Coro<Client> enter(int port, std::string name) {
    coil::Streams streams = co_await coil::open_connection("127.0.0.1", port);
    Client client{std::move(name), std::move(streams)};
    client.say(client.name);
    co_return client;
}

coil::Coro<> chat() {
    Room room;
    auto serve = [&room](coil::StreamReader reader, coil::StreamWriter writer) {
        return room.serve(std::move(reader), std::move(writer));
    };
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;

    Client ada = co_await enter(port, "ada");
    co_await ada.hear();
    Client bob = co_await enter(port, "bob");
    co_await ada.hear();
    co_await bob.hear();
    Client again = co_await enter(port, "bob");
    co_await again.hear();

    ada.say("hello, bob");
    co_await bob.hear();
    bob.say("hello, ada");
    co_await ada.hear();

    bob.streams.writer.close();
    co_await ada.hear();
    ada.streams.writer.close();
    again.streams.writer.close();
    server.close();
    co_await server.wait_closed();  // and for its connections, which use the room
}

int main() { coil::run(chat()); }
