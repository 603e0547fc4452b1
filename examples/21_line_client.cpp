// A client of a protocol of lines, in the manner of SMTP: "250 text", and "250-text" while more lines follow. Each exchange
// is one coroutine, with a time limit; an end in the middle is an error.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>
#include <vector>

using namespace std::chrono_literals;

struct Reply {
    int code;
    std::vector<std::string> lines;
};

class MailClient {
  public:
    explicit MailClient(coil::Streams streams) : streams_(std::move(streams)) {}
    MailClient(const MailClient&) = delete;
    MailClient& operator=(const MailClient&) = delete;
    ~MailClient() { streams_.writer.close(); }  // also after an error; a connection left open is reported

    coil::Coro<Reply> read_reply() {
        Reply reply{};
        for (;;) {
            // readline() would give what is left when the connection ends; this throws IncompleteReadError.
            std::string line = co_await streams_.reader.readuntil("\r\n");
            reply.code = std::stoi(line);
            reply.lines.push_back(line.substr(4, line.size() - 6));
            if (line[3] != '-') co_return reply;
        }
    }

    coil::Coro<Reply> command(std::string text) {
        streams_.writer.writelines({text, "\r\n"});
        co_await streams_.writer.drain();
        co_return co_await coil::wait_for(read_reply(), 5s);
    }

    coil::Coro<> close() {
        streams_.writer.close();
        return streams_.writer.wait_closed();
    }

  private:
    coil::Streams streams_;
};

void show(const Reply& reply) {
    for (const std::string& line : reply.lines) fmt::print("{} {}\n", reply.code, line);
}

// The server, as far as it is needed here.
coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
    writer.write("220 mail.example\r\n");
    while (auto line = co_await reader.next()) {
        if (line->starts_with("EHLO")) {
            writer.write("250-mail.example greets you\r\n250-8BITMIME\r\n250 SIZE 1000000\r\n");
        } else if (line->starts_with("QUIT")) {
            writer.write("221 bye\r\n");
            break;
        } else if (line->starts_with("CRASH")) {
            writer.write("451 the rest of this line is lo");
            break;
        } else {
            writer.write("500 what?\r\n");
        }
        co_await writer.drain();
    }
    writer.close();
}

coil::Coro<> talk(int port, std::string last_words) {
    coil::Streams streams = co_await coil::open_connection("127.0.0.1", port);
    MailClient client(std::move(streams));
    show(co_await client.read_reply());
    show(co_await client.command("EHLO me"));
    show(co_await client.command("HELP"));
    show(co_await client.command(last_words));
    co_await client.close();
}

coil::Coro<> both() {
    coil::Server server = co_await coil::start_server(serve, "127.0.0.1", 0);
    int port = server.sockets().front().getsockname().port;
    co_await talk(port, "QUIT");
    auto outcome = co_await coil::try_await(talk(port, "CRASH"));
    if (!outcome) fmt::print("{}\n", coil::describe_exception(outcome.error()));
    server.close();
    co_await server.wait_closed();
}

int main() { coil::run(both()); }
