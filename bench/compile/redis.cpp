// A client for Redis: RESP2 and RESP3, pipelines, a pool of connections, transactions, publish and subscribe. The program at
// the end tries all of that on a server: `redis [PORT]`, by default 6379.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <coil/coil.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fmt/format.h>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;

namespace {

// ---- values

/// The server's answer was an error: "ERR unknown command".
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The server's answer was not what was expected of it.
class ProtocolError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// What a server answers. Maps, sets and pushes are arrays; a map's has keys and values in turn, as in RESP2.
class Value {
  public:
    using Array = std::vector<Value>;

    Value() noexcept = default;  // null
    explicit Value(bool value) : content_(value) {}
    explicit Value(std::int64_t value) : content_(value) {}
    explicit Value(double value) : content_(value) {}
    explicit Value(std::string value) : content_(std::move(value)) {}
    explicit Value(Error value) : content_(std::move(value)) {}
    explicit Value(Array value) : content_(std::move(value)) {}

    bool is_null() const noexcept { return std::holds_alternative<std::nullptr_t>(content_); }
    const Error* error() const noexcept { return std::get_if<Error>(&content_); }
    const std::string& text() const { return as<std::string>("a string"); }
    std::int64_t integer() const { return as<std::int64_t>("an integer"); }
    const Array& array() const { return as<Array>("an array"); }
    std::map<std::string, std::string> map() const {
        std::map<std::string, std::string> result;
        for (std::size_t i = 0; i + 1 < array().size(); i += 2)
            result.emplace(array()[i].text(), array()[i + 1].text());
        return result;
    }

    /// As redis-cli shows it, in one line.
    std::string describe() const {
        return std::visit(
            []<class T>(const T& content) -> std::string {
                if constexpr (std::same_as<T, std::nullptr_t>) {
                    return "(nil)";
                } else if constexpr (std::same_as<T, std::string>) {
                    return fmt::format("\"{}\"", content);
                } else if constexpr (std::same_as<T, Error>) {
                    return fmt::format("(error) {}", content.what());
                } else if constexpr (std::same_as<T, Array>) {
                    std::string parts;
                    for (const Value& part : content) parts += (parts.empty() ? "" : ", ") + part.describe();
                    return fmt::format("[{}]", parts);
                } else {
                    return fmt::format("{}", content);
                }
            },
            content_);
    }

  private:
    template <class T>
    const T& as(const char* expected) const {
        if (const T* content = std::get_if<T>(&content_)) return *content;
        throw ProtocolError(fmt::format("{} was expected, not {}", expected, describe()));
    }

    std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Error, Array> content_;
};

template <class Number>
Number parse_number(std::string_view text) {
    Number number{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size())
        throw ProtocolError(fmt::format("a number was expected, not '{}'", text));
    return number;
}

/// Reads values from a stream.
class Parser {
  public:
    explicit Parser(coil::StreamReader reader) : reader_(std::move(reader)) {}

    /// The next value, complete. `pushed()` tells whether it is one that the server sent of its own accord.
    coil::Coro<Value> read() {
        pushed_ = false;
        return read_value(0);
    }
    bool pushed() const noexcept { return pushed_; }

  private:
    static constexpr int DEEPEST = 16;
    static constexpr std::int64_t MOST_BYTES = 512 * 1024 * 1024;
    static constexpr std::int64_t MOST_ITEMS = 1024 * 1024;

    coil::Coro<Value> read_value(int depth) {
        if (depth > DEEPEST) throw ProtocolError("arrays in arrays, too deep");
        std::string line = co_await reader_.readuntil("\r\n");
        line.resize(line.size() - 2);
        if (line.empty()) throw ProtocolError("an empty line where a value should begin");
        std::string_view rest = std::string_view(line).substr(1);
        switch (line.front()) {
            case '+':
            case '(':  // a number with more digits than an integer has
                co_return Value(std::string(rest));
            case '-':
                co_return Value(Error(std::string(rest)));
            case ':':
                co_return Value(parse_number<std::int64_t>(rest));
            case ',':
                co_return Value(parse_number<double>(rest));
            case '#':
                co_return Value(rest == "t");
            case '_':
                co_return Value();
            case '$':
            case '=':
            case '!':
                co_return co_await read_blob(line.front(), parse_number<std::int64_t>(rest));
            case '>':
                pushed_ = depth == 0;
                co_return co_await read_items(parse_number<std::int64_t>(rest), depth);
            case '*':
            case '~':
                co_return co_await read_items(parse_number<std::int64_t>(rest), depth);
            case '%':
                co_return co_await read_items(2 * parse_number<std::int64_t>(rest), depth);
            default:
                throw ProtocolError(fmt::format("no value begins with '{}'", line.front()));
        }
    }

    coil::Coro<Value> read_blob(char kind, std::int64_t size) {
        if (size < 0) co_return Value();
        if (size > MOST_BYTES) throw ProtocolError(fmt::format("a string of {} bytes", size));
        std::string text = co_await reader_.readexactly(static_cast<std::size_t>(size));
        std::string end = co_await reader_.readexactly(2);
        if (end != "\r\n") throw ProtocolError("a string does not end where it should");
        if (kind == '!') co_return Value(Error(text));
        if (kind == '=') text.erase(0, 4);  // "txt:" or "mkd:"
        co_return Value(std::move(text));
    }

    coil::Coro<Value> read_items(std::int64_t count, int depth) {
        if (count < 0) co_return Value();
        if (count > MOST_ITEMS) throw ProtocolError(fmt::format("an array of {} items", count));
        Value::Array items;
        items.reserve(static_cast<std::size_t>(count));
        while (std::ssize(items) < count) items.push_back(co_await read_value(depth + 1));
        co_return Value(std::move(items));
    }

    coil::StreamReader reader_;
    bool pushed_ = false;
};

// ---- commands

/// One or more, as they are sent: `Commands().add("SET", "key", 1).add("GET", "key")`.
class Commands {
  public:
    template <class... Words>
    Commands& add(const Words&... words) {
        ++count_;
        fmt::format_to(std::back_inserter(text_), "*{}\r\n", sizeof...(Words));
        (add_word(words), ...);
        return *this;
    }
    const std::string& text() const noexcept { return text_; }
    std::size_t count() const noexcept { return count_; }

  private:
    void add_word(std::string_view word) {
        fmt::format_to(std::back_inserter(text_), "${}\r\n{}\r\n", word.size(), word);
    }
    template <class Number>
        requires std::is_arithmetic_v<Number>
    void add_word(Number number) {
        add_word(std::string_view(fmt::to_string(number)));
    }

    std::string text_;
    std::size_t count_ = 0;
};

template <class... Words>
Commands command(const Words&... words) {
    return std::move(Commands().add(words...));
}

// ---- connections

struct Options {
    std::string host = "127.0.0.1";
    int port = 6379;
    std::string user = "default";
    std::string password;  // empty: none
    int database = 0;
    std::chrono::milliseconds connect_limit = 2s;
    std::chrono::milliseconds answer_limit = 5s;
    int attempts = 4;  // to connect
    std::size_t pool_size = 4;
};

/// One connection. Any number of commands may be under way: answers come in the order of the commands.
class Connection {
  public:
    Connection(coil::Streams streams, Options options)
        : state_(std::make_shared<State>(std::move(streams))), options_(std::move(options)) {
        receiving_ = coil::create_task(receive(state_), {.name = "redis.receive"});
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        receiving_.cancel();
        state_->streams.writer.close();
    }

    /// Connects and introduces itself.
    static coil::Coro<std::unique_ptr<Connection>> open(Options options) {
        coil::Streams streams =
            co_await coil::wait_for(coil::open_connection(options.host, options.port), options.connect_limit);
        auto connection = std::make_unique<Connection>(std::move(streams), options);
        if (!options.password.empty()) co_await connection->call("AUTH", options.user, options.password);
        try {
            co_await connection->call("HELLO", 3);
        } catch (const Error&) {  // older than 6.0: RESP2, then
        }
        if (options.database != 0) co_await connection->call("SELECT", options.database);
        co_return connection;
    }

    bool is_lost() const noexcept { return state_->lost != nullptr; }

    /// Sends them in one piece; the answers, errors among them, come in futures.
    std::vector<coil::Future<Value>> send(const Commands& commands) {
        if (is_lost()) std::rethrow_exception(state_->lost);
        std::vector<coil::Future<Value>> answers;
        for (std::size_t i = 0; i < commands.count(); ++i)
            answers.push_back(coil::get_running_loop().create_future<Value>());
        state_->waiting.insert(state_->waiting.end(), answers.begin(), answers.end());
        state_->streams.writer.write(commands.text());
        return answers;
    }
    /// The answers, errors among them.
    coil::Coro<Value::Array> execute(Commands commands) {
        co_await state_->streams.writer.drain();  // before: answers that nobody waits for are nobody's errors
        co_return co_await coil::wait_for(coil::gather(send(commands)), options_.answer_limit);
    }
    /// The answer to one command; throws Error.
    template <class... Words>
    coil::Coro<Value> call(const Words&... words) {
        return execute_one(command(words...));
    }
    coil::Coro<Value> execute_one(Commands commands) {
        Value::Array answers = co_await execute(std::move(commands));
        if (const Error* error = answers.front().error()) throw *error;
        co_return std::move(answers.front());
    }
    /// MULTI, the commands, EXEC. Nothing if a watched key was changed by somebody else: then nothing was done.
    coil::Coro<std::optional<Value::Array>> transaction(Commands commands) {
        std::vector<coil::Future<Value>> answers = send(command("MULTI"));
        for (auto& answer : send(commands)) answers.push_back(std::move(answer));  // QUEUED, each
        answers.push_back(send(command("EXEC")).front());
        Value::Array all = co_await coil::wait_for(coil::gather(std::move(answers)), options_.answer_limit);
        for (const Value& answer : all)
            if (const Error* error = answer.error()) throw *error;
        if (all.back().is_null()) co_return std::nullopt;
        co_return all.back().array();
    }

    /// What comes is for `next_push()` from now on.
    void subscribe(const std::vector<std::string>& channels) {
        Commands commands;
        for (const std::string& channel : channels) commands.add("SUBSCRIBE", channel);
        state_->streams.writer.write(commands.text());
    }
    /// Nothing once the connection is lost.
    coil::Coro<std::optional<Value>> next_push() {
        try {
            co_return co_await state_->pushes.get();
        } catch (const coil::QueueShutDown&) {
            co_return std::nullopt;
        }
    }

  private:
    /// Shared with the task that receives, which ends after the connection.
    struct State {
        explicit State(coil::Streams its_streams) : streams(std::move(its_streams)) {}

        coil::Streams streams;
        std::deque<coil::Future<Value>> waiting;
        coil::Queue<Value> pushes;
        std::exception_ptr lost;
    };

    static coil::Coro<> receive(std::shared_ptr<State> state) {
        auto outcome = co_await coil::try_await(receive_values(*state));
        try {
            outcome.value();
        } catch (const ProtocolError&) {
            state->lost = std::current_exception();
        } catch (...) {
            state->lost = std::make_exception_ptr(coil::ConnectionResetError("the connection is lost"));
        }
        for (auto& answer : std::exchange(state->waiting, {}))
            if (!answer.done()) answer.set_exception(state->lost);
        state->pushes.shutdown();
        state->streams.writer.close();
        if (outcome.cancelled()) outcome.value();
    }
    static coil::Coro<> receive_values(State& state) {
        Parser parser(state.streams.reader);
        for (;;) {
            Value value = co_await parser.read();
            if (parser.pushed() || state.waiting.empty()) {  // RESP2 does not mark pushes
                state.pushes.put_nowait(std::move(value));
                continue;
            }
            coil::Future<Value> answer = std::move(state.waiting.front());
            state.waiting.pop_front();
            if (!answer.done()) answer.set_result(std::move(value));  // done: who asked has given up
        }
    }

    std::shared_ptr<State> state_;
    Options options_;
    coil::Task<> receiving_;
};

/// Tries again, after longer and longer pauses, while the server cannot be reached.
coil::Coro<std::unique_ptr<Connection>> connect(Options options) {
    static std::minstd_rand random{std::random_device()()};
    std::uniform_real_distribution<> spread(0.5, 1.0);  // lest all who lost it come back at the same time
    std::chrono::duration<double> pause = 50ms;
    for (int attempt = 1; attempt < options.attempts; ++attempt, pause *= 3) {
        try {
            co_return co_await Connection::open(options);
        } catch (const coil::OSError& error) {
            fmt::print("attempt {} to connect: {}\n", attempt, error.what());
        }
        co_await coil::sleep(pause * spread(random));
    }
    co_return co_await Connection::open(std::move(options));
}

/// Connections for those who need one for themselves: transactions, commands that wait.
///
///     co_await coil::async_with(pool.lease(), [&](Connection& connection) -> coil::Coro<> { … });
class Pool {
  public:
    explicit Pool(Options options) : options_(std::move(options)) {}

    class Lease {
      public:
        explicit Lease(Pool& pool) noexcept : pool_(&pool) {}
        coil::Coro<Connection&> aenter() {
            connection_ = co_await pool_->take();
            co_return *connection_;
        }
        coil::Coro<> aexit(std::exception_ptr error) {
            if (error) connection_ = nullptr;  // who knows what is under way on it
            return pool_->give_back(std::move(connection_));
        }

      private:
        Pool* pool_;
        std::unique_ptr<Connection> connection_;
    };
    Lease lease() noexcept { return Lease(*this); }

    /// Waits for those that are lent.
    coil::Coro<> close() {
        auto held = co_await changed_.scoped();
        closed_ = true;
        open_ -= std::exchange(idle_, {}).size();
        changed_.notify_all();
        co_await changed_.wait_for([this] { return open_ == 0; });
    }

  private:
    coil::Coro<std::unique_ptr<Connection>> take() {
        auto held = co_await changed_.scoped();
        co_await changed_.wait_for(
            [this] { return closed_ || !idle_.empty() || open_ < options_.pool_size; });
        if (closed_) throw coil::RuntimeError("the pool is closed");
        while (!idle_.empty()) {
            std::unique_ptr<Connection> connection = std::move(idle_.back());
            idle_.pop_back();
            if (!connection->is_lost()) co_return connection;
            --open_;
        }
        ++open_;
        held.release();  // others need not wait while this one connects
        auto outcome = co_await coil::try_await(connect(options_));
        if (!outcome) co_await give_back(nullptr);
        co_return std::move(outcome).value();
    }
    coil::Coro<> give_back(std::unique_ptr<Connection> connection) {
        auto held = co_await changed_.scoped();
        if (connection && !closed_) {
            idle_.push_back(std::move(connection));
        } else {
            --open_;
        }
        changed_.notify();
    }

    Options options_;
    coil::Condition changed_;
    std::vector<std::unique_ptr<Connection>> idle_;
    std::size_t open_ = 0;
    bool closed_ = false;
};

/// All that one program wants of a server. Ordinary commands of all tasks go over one connection.
class Client {
  public:
    explicit Client(Options options) : options_(options), pool_(std::move(options)) {}

    Pool& pool() noexcept { return pool_; }
    const Options& options() const noexcept { return options_; }

    template <class... Words>
    coil::Coro<Value> call(const Words&... words) {
        return execute_one(command(words...));
    }
    /// The answers, errors among them. They are not sent again after a loss: they may have been done.
    coil::Coro<Value::Array> execute(Commands commands) {
        std::shared_ptr<Connection> connection = co_await connected();
        co_return co_await connection->execute(std::move(commands));
    }

    coil::Coro<std::optional<std::string>> get(std::string key) {
        Value value = co_await call("GET", key);
        if (value.is_null()) co_return std::nullopt;
        co_return value.text();
    }
    coil::Coro<> set(std::string key, std::string value, std::chrono::milliseconds life) {
        co_await call("SET", key, value, "PX", life.count());
    }
    /// Gives the number of receivers.
    coil::Coro<std::int64_t> publish(std::string channel, std::string text) {
        Value value = co_await call("PUBLISH", channel, text);
        co_return value.integer();
    }
    /// The keys that match, some perhaps twice.
    coil::AsyncGenerator<std::string> scan(std::string pattern) {
        std::string cursor = "0";
        do {
            Value page = co_await call("SCAN", cursor, "MATCH", pattern, "COUNT", 100);
            cursor = page.array().at(0).text();
            for (const Value& key : page.array().at(1).array()) co_yield key.text();
        } while (cursor != "0");
    }
    coil::Coro<> close() {
        shared_ = nullptr;
        return pool_.close();
    }

  private:
    coil::Coro<Value> execute_one(Commands commands) {
        std::shared_ptr<Connection> connection = co_await connected();
        co_return co_await connection->execute_one(std::move(commands));
    }
    coil::Coro<std::shared_ptr<Connection>> connected() {
        auto held = co_await connecting_.scoped();  // one connects, the others wait for that
        if (!shared_ || shared_->is_lost()) shared_ = co_await connect(options_);
        co_return shared_;
    }

    Options options_;
    Pool pool_;
    coil::Lock connecting_;
    std::shared_ptr<Connection> shared_;
};

struct Message {
    std::string channel;
    std::string text;
};

/// What is published on the channels. After a loss it connects again; what was published meanwhile is missed.
coil::AsyncGenerator<Message> subscribe(Options options, std::vector<std::string> channels) {
    for (;;) {
        std::unique_ptr<Connection> connection = co_await connect(options);
        connection->subscribe(channels);
        while (auto push = co_await connection->next_push()) {
            const Value::Array& parts = push->array();
            if (parts.size() != 3 || parts[0].text() != "message") continue;  // that it is subscribed
            Message message{parts[1].text(), parts[2].text()};
            co_yield std::move(message);
        }
    }
}

// ---- the program

coil::Coro<> strings_and_hashes(Client& client) {
    co_await client.set("coil:greeting", "hello", 1min);
    std::optional<std::string> greeting = co_await client.get("coil:greeting");
    std::optional<std::string> nothing = co_await client.get("coil:nothing");
    fmt::print("greeting: {}, nothing: {}\n", greeting.value_or("-"), nothing.value_or("-"));

    co_await client.call("HSET", "coil:hash", "one", 1, "half", 0.5);
    Value hash = co_await client.call("HGETALL", "coil:hash");
    for (const auto& [field, value] : hash.map()) fmt::print("{} = {}\n", field, value);
    auto outcome = co_await coil::try_await(client.call("INCR", "coil:hash"));
    if (!outcome) fmt::print("{}\n", coil::describe_exception(outcome.error()));
}

coil::Coro<> count(Client& client) {
    Commands commands;
    for (int i = 0; i < 1000; ++i) commands.add("INCR", "coil:counter");
    Value::Array answers = co_await client.execute(std::move(commands));
    fmt::print("{} in one pipeline\n", answers.back().integer());

    // The same by many tasks, of which some forty are under way at any time.
    coil::Semaphore slots(40);
    auto increment = [&]() -> coil::Coro<> {
        auto slot = co_await slots.scoped();
        co_await client.call("INCR", "coil:counter");
    };
    std::vector<coil::Coro<>> increments;
    for (int i = 0; i < 1000; ++i) increments.push_back(increment());
    co_await coil::gather(std::move(increments));
    std::optional<std::string> total = co_await client.get("coil:counter");
    fmt::print("{} by tasks\n", total.value_or("-"));
}

/// Moves money from one account to another, unless it is not there. Starts anew if somebody else was faster.
coil::Coro<bool> transfer(Client& client, std::string from, std::string to, std::int64_t amount) {
    auto try_it = [&](Connection& connection) -> coil::Coro<bool> {
        for (;;) {
            co_await connection.call("WATCH", from);
            Value balance = co_await connection.call("GET", from);
            if (parse_number<std::int64_t>(balance.text()) < amount) {
                co_await connection.call("UNWATCH");
                co_return false;
            }
            Commands change;
            change.add("DECRBY", from, amount).add("INCRBY", to, amount);
            auto done = co_await connection.transaction(change);
            if (done) co_return true;
        }
    };
    co_return co_await coil::async_with(client.pool().lease(), try_it);
}

coil::Coro<> transfers(Client& client) {
    co_await client.set("coil:ada", "100", 1min);
    co_await client.set("coil:bob", "0", 1min);
    std::vector<coil::Coro<bool>> all;
    for (int i = 0; i < 12; ++i) all.push_back(transfer(client, "coil:ada", "coil:bob", 10));
    std::vector<bool> done = co_await coil::gather(std::move(all));
    auto [ada, bob] = co_await coil::gather(client.get("coil:ada"), client.get("coil:bob"));
    fmt::print("{} of {} transfers, ada has {}, bob has {}\n", std::ranges::count(done, true), done.size(),
               ada.value_or("-"), bob.value_or("-"));
}

coil::Coro<> hear_news(Options options) {
    std::vector<std::string> channels{"coil:news", "coil:weather"};
    auto news = subscribe(std::move(options), std::move(channels));
    while (auto message = co_await news.next()) {
        fmt::print("{}: {}\n", message->channel, message->text);
        if (message->text == "that is all") break;
    }
    co_await news.aclose();
}

coil::Coro<> news(Client& client) {
    auto speak_and_hear = [&](coil::TaskGroup& group) -> coil::Coro<> {
        group.create_task(hear_news(client.options()), {.name = "hear_news"});
        while (co_await client.publish("coil:weather", "rain") == 0) co_await coil::sleep(10ms);
        co_await client.publish("coil:news", "nothing new");
        co_await client.publish("coil:news", "that is all");
    };
    auto hearing = coil::async_with(coil::TaskGroup(), speak_and_hear);
    co_await coil::wait_for(std::move(hearing), 5s);
}

/// The server closes the connection; the next command opens another one.
coil::Coro<> lose_the_connection(Client& client) {
    Value id = co_await client.call("CLIENT", "ID");
    auto outcome =
        co_await coil::try_await(client.call("CLIENT", "KILL", "ID", id.integer(), "SKIPME", "no"));
    co_await coil::sleep(10ms);
    Value answer = co_await client.call("PING");
    fmt::print("after a loss: {}\n", answer.describe());
}

coil::Coro<> try_everything(Client& client) {
    Value version = co_await client.call("INFO", "server");
    std::size_t place = version.text().find("redis_version");
    fmt::print("{}\n", version.text().substr(place, version.text().find('\r', place) - place));
    co_await strings_and_hashes(client);
    co_await count(client);
    co_await transfers(client);
    co_await news(client);
    co_await lose_the_connection(client);

    int found = 0;
    auto keys = client.scan("coil:*");
    while (auto key = co_await keys.next()) {
        co_await client.call("DEL", *key);
        ++found;
    }
    fmt::print("{} keys were left\n", found);
}

coil::Coro<> program(Options options) {
    Client client(std::move(options));
    auto close = [&]() -> coil::Coro<> { co_await client.close(); };
    co_await coil::finally(try_everything(client), close);
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    if (argc > 1) options.port = std::atoi(argv[1]);
    try {
        coil::run(program(std::move(options)));
    } catch (const std::exception& error) {
        fmt::print("redis: {}\n", error.what());
        return 1;
    }
}
