// A chat server: `chat [PORT [TRANSCRIPT]]`, and `nc 127.0.0.1 6667` in as many terminals as there are people. What one says,
// all hear, and a transcript keeps.
//
//     /nick NAME    takes another name        /who     who is there
//     /me WORDS     does something            /quit    leaves
//
// SIGINT and SIGTERM say goodbye to everyone and end it.

#include <algorithm>
#include <cctype>
#include <chrono>
#include <coil/coil.hpp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fmt/format.h>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

constexpr auto IDLE_LIMIT = 10min;  // who says nothing for so long is shown out
constexpr auto SEND_LIMIT = 20s;    // who reads nothing for so long, too
constexpr auto GRACE_PERIOD = 2s;   // at the end
constexpr std::ptrdiff_t OUTBOX_LINES = 100;
constexpr std::int64_t TRANSCRIPT_BYTES = 1'000'000;

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view BLANK = " \t\r\n";
    std::size_t begin = text.find_first_not_of(BLANK);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(BLANK) - begin + 1);
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 20 &&
           std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; });
}

/// What a client is told whose listening ended like this.
std::string_view farewell(const std::exception_ptr& error) {
    if (!error) return "* goodbye\n";
    try {
        std::rethrow_exception(error);
    } catch (const coil::CancelledError&) {
        return "* the chat is over\n";
    } catch (const coil::TimeoutError&) {
        return "* you have said nothing for a long time: goodbye\n";
    } catch (const coil::ValueError&) {
        return "* that line was too long: goodbye\n";
    } catch (const std::exception&) {
        return "* something went wrong: goodbye\n";
    }
}

/// Who is connected. What others say goes through the outbox, so that nobody has to wait for a slow reader.
struct Client {
    explicit Client(std::string its_name) : name(std::move(its_name)) {}

    /// Never waits: who does not read misses lines.
    void tell(std::string_view line) {
        if (outbox.full() || outbox.is_shut_down()) {
            ++missed;
        } else {
            outbox.put_nowait(std::string(line));
        }
    }

    std::string name;
    coil::Queue<std::string> outbox{OUTBOX_LINES};
    std::size_t missed = 0;
    coil::Task<> listening;
};

class Room {
  public:
    std::shared_ptr<Client> enter() {
        std::string name;
        do name = fmt::format("guest{}", ++guests_);
        while (clients_.contains(name));
        auto client = std::make_shared<Client>(name);
        clients_.emplace(std::move(name), client);
        return client;
    }
    void leave(const Client& client) { clients_.erase(client.name); }
    /// False if somebody has that name.
    bool rename(Client& client, std::string name) {
        if (clients_.contains(name)) return false;
        auto entry = clients_.extract(client.name);
        entry.key() = client.name = std::move(name);
        clients_.insert(std::move(entry));
        return true;
    }
    void broadcast(std::string_view line) {
        for (auto& [name, client] : clients_) client->tell(line);
    }
    std::vector<std::shared_ptr<Client>> everybody() const {
        std::vector<std::shared_ptr<Client>> all;
        for (const auto& [name, client] : clients_) all.push_back(client);
        return all;
    }

  private:
    std::map<std::string, std::shared_ptr<Client>> clients_;
    int guests_ = 0;
};

/// What was said, in a file. One that has become long is put aside as PATH.old.
class Transcript {
  public:
    explicit Transcript(std::string path) : path_(std::move(path)) {}

    coil::Coro<> add(std::string_view line) {
        if (path_.empty()) co_return;
        auto held = co_await turn_.scoped();  // a change of files is several steps
        if (!file_.closed() && file_.tell() >= TRANSCRIPT_BYTES) {
            co_await file_.close();
            std::rename(path_.c_str(), (path_ + ".old").c_str());
        }
        if (file_.closed()) file_ = co_await coil::open_file(path_, "a");
        co_await file_.write(line);
    }
    coil::Coro<> close() {
        auto held = co_await turn_.scoped();
        co_await file_.close();
    }

  private:
    std::string path_;
    coil::File file_;
    coil::Lock turn_;
};

class Chat {
  public:
    explicit Chat(std::string transcript) : transcript_(std::move(transcript)) {}

    /// Until a signal comes.
    coil::Coro<> run(int port) {
        auto on_client = [this](coil::StreamReader reader, coil::StreamWriter writer) {
            return serve(std::move(reader), std::move(writer));
        };
        coil::Server server = co_await coil::start_server(on_client, "127.0.0.1", port);
        fmt::print("listening on port {}\n", server.sockets().front().getsockname().port);
        std::fflush(stdout);

        coil::EventLoop& loop = coil::get_running_loop();
        coil::Event stop;
        for (int number : {SIGINT, SIGTERM}) loop.add_signal_handler(number, [&stop] { stop.set(); });
        co_await stop.wait();
        for (int number : {SIGINT, SIGTERM}) loop.remove_signal_handler(number);

        server.close();
        std::vector<coil::Coro<>> goodbyes;
        for (auto& client : room_.everybody()) goodbyes.push_back(dismiss(client));
        co_await coil::gather(coil::return_exceptions, std::move(goodbyes));
        auto all_gone = co_await coil::try_await(coil::wait_for(server.wait_closed(), GRACE_PERIOD));
        if (!all_gone) {
            server.abort_clients();
            co_await server.wait_closed();
        }
        co_await transcript_.close();
    }

  private:
    coil::Coro<> serve(coil::StreamReader reader, coil::StreamWriter writer) {
        std::shared_ptr<Client> client = room_.enter();
        auto converse = [&](coil::TaskGroup& group) -> coil::Coro<> {
            group.create_task(send(*client, writer), {.name = "send"});
            client->listening = group.create_task(listen(*client, reader), {.name = "listen"});
            client->tell("* welcome: /nick NAME, /me WORDS, /who, /quit\n");
            co_await announce(fmt::format("* {} is here\n", client->name));
        };
        auto outcome = co_await coil::try_await(coil::async_with(coil::TaskGroup(), converse));
        room_.leave(*client);
        writer.close();
        try {
            outcome.value();
        } catch (const coil::ExceptionGroup& errors) {
            for (const std::exception_ptr& error : errors.exceptions())
                fmt::print(stderr, "{}: {}\n", client->name, coil::describe_exception(error));
        }
        co_await announce(fmt::format("* {} has left\n", client->name));
    }

    /// The client's lines, until it leaves or is to leave; then its outbox ends, and with that the sending.
    coil::Coro<> listen(Client& client, coil::StreamReader reader) {
        auto outcome = co_await coil::try_await(obey_all(client, reader));
        client.tell(farewell(outcome.error()));
        client.outbox.shutdown();
        if (outcome.cancelled()) outcome.value();
    }

    coil::Coro<> send(Client& client, coil::StreamWriter writer) {
        try {
            for (;;) {
                std::string line = co_await client.outbox.get();
                writer.write(line);
                if (client.missed > 0 && client.outbox.empty())
                    writer.write(fmt::format("* you missed {} lines\n", std::exchange(client.missed, 0)));
                co_await coil::wait_for(writer.drain(), SEND_LIMIT);
            }
        } catch (const coil::QueueShutDown&) {  // all is said
        }
    }

    coil::Coro<> obey_all(Client& client, coil::StreamReader reader) {
        for (;;) {
            std::optional<std::string> line = co_await coil::wait_for(reader.next(), IDLE_LIMIT);
            if (!line || trimmed(*line) == "/quit") co_return;
            co_await obey(client, trimmed(*line));
        }
    }

    coil::Coro<> obey(Client& client, std::string_view line) {
        std::size_t blank = std::min(line.find(' '), line.size());
        std::string_view command = line.substr(0, blank);
        std::string_view words = trimmed(line.substr(blank));
        if (line.empty()) co_return;
        if (!line.starts_with('/')) {
            co_await announce(fmt::format("{}: {}\n", client.name, line));
        } else if (command == "/nick") {
            co_await rename(client, std::string(words));
        } else if (command == "/me") {
            co_await announce(fmt::format("* {} {}\n", client.name, words));
        } else if (command == "/who") {
            std::string names;
            for (const auto& other : room_.everybody()) names += " " + other->name;
            client.tell(fmt::format("* here:{}\n", names));
        } else {
            client.tell(fmt::format("* no such command: {}\n", command));
        }
    }

    coil::Coro<> rename(Client& client, std::string name) {
        std::string before = client.name;
        if (!is_name(name)) {
            client.tell("* a name is up to 20 letters, digits, '-' and '_'\n");
        } else if (!room_.rename(client, name)) {
            client.tell(fmt::format("* {} is taken\n", name));
        } else {
            co_await announce(fmt::format("* {} is now {}\n", before, name));
        }
    }

    coil::Coro<> announce(std::string line) {
        room_.broadcast(line);
        co_await transcript_.add(line);
    }

    /// Gives a slow reader some time for what is before it in the outbox.
    coil::Coro<> dismiss(std::shared_ptr<Client> client) {
        auto told = co_await coil::try_await(
            coil::wait_for(client->outbox.put("* somebody turns off the lights\n"), GRACE_PERIOD));
        client->listening.cancel();
        told.value();
    }

    Room room_;
    Transcript transcript_;
};

}  // namespace

int main(int argc, char** argv) {
    int port = argc > 1 ? std::atoi(argv[1]) : 6667;
    Chat chat(argc > 2 ? argv[2] : "");
    try {
        coil::run(chat.run(port));
    } catch (const std::exception& error) {
        fmt::print(stderr, "chat: {}\n", error.what());
        return 1;
    }
}
