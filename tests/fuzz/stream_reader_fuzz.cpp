// A StreamReader that is fed in pieces and read in every way, beside a model of a few lines: what each read gives, the error it
// ends with, and what it leaves behind must be the same. The alphabet is small, so that separators are found, cut and missed.
//
//   stream_reader_fuzz [libFuzzer's options] [DIR]     without options it goes on until it finds something

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coil/coil.hpp"
#include "coil/testing/virtual_loop.hpp"

namespace {

using coil::Coro;

/// The fuzzer's bytes, taken one after the other; zeros at the end.
class Input {
  public:
    explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
    bool empty() const { return bytes_.empty(); }
    std::size_t number(std::size_t below) {
        if (bytes_.empty()) return 0;
        std::size_t value = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return value % below;
    }
    std::string text(std::size_t longest) {
        std::string result(number(longest + 1), 'a');
        for (char& c : result) c = "ab\r\n;"[number(5)];
        return result;
    }

  private:
    std::span<const std::uint8_t> bytes_;
};

struct Operation {
    enum class Kind { READ, LINE, EXACTLY, UNTIL } kind;
    std::size_t size = 0;
    std::vector<std::string> separators{};
};

/// The reader, as the documentation has it.
struct Model {
    std::size_t limit;
    std::string buffer{};
    bool ended = false;

    std::string take(std::size_t size) {
        std::string taken = buffer.substr(0, size);
        buffer.erase(0, size);
        return taken;
    }

    /// What the operation ends with; nothing: it waits.
    std::optional<std::string> carry_out(const Operation& operation) {
        switch (operation.kind) {
            case Operation::Kind::READ:
                if (operation.size == 0) return "";
                if (buffer.empty() && !ended) return std::nullopt;
                return take(operation.size);
            case Operation::Kind::EXACTLY:
                if (buffer.size() >= operation.size) return take(operation.size);
                if (!ended) return std::nullopt;
                return "IncompleteRead " + take(buffer.size());
            case Operation::Kind::UNTIL:
                return until(operation.separators);
            case Operation::Kind::LINE:
                return line();
        }
        std::abort();
    }

    struct Found {
        std::size_t begin = std::string::npos;
        std::size_t end = std::string::npos;
    };
    /// The separator that ends first; of those, the longest.
    Found find(const std::vector<std::string>& separators) const {
        for (std::size_t end = 1; end <= buffer.size(); ++end) {
            Found found;
            for (const std::string& separator : separators) {
                if (std::string_view(buffer).substr(0, end).ends_with(separator))
                    found = {std::min(found.begin, end - separator.size()), end};
            }
            if (found.end != std::string::npos) return found;
        }
        return {};
    }
    /// Bytes that can belong to no separator.
    std::size_t searched(const std::vector<std::string>& separators) const {
        std::size_t shortest = std::string::npos;
        std::size_t longest = 0;
        for (const std::string& separator : separators) {
            shortest = std::min(shortest, separator.size());
            longest = std::max(longest, separator.size());
        }
        if (buffer.size() < shortest || buffer.size() + 1 <= longest) return 0;
        return buffer.size() + 1 - longest;
    }
    std::optional<std::string> until(const std::vector<std::string>& separators) {
        Found found = find(separators);
        if (found.end != std::string::npos) {
            if (found.begin > limit) return "LimitOverrun " + std::to_string(found.begin);
            return take(found.end);
        }
        if (std::size_t done = searched(separators); done > limit)
            return "LimitOverrun " + std::to_string(done);
        if (!ended) return std::nullopt;
        return "IncompleteRead " + take(buffer.size());
    }
    std::optional<std::string> line() {
        Found found = find({"\n"});
        if (found.end != std::string::npos) {
            std::string taken = take(found.end);
            return found.begin > limit ? "ValueError" : taken;
        }
        if (buffer.size() > limit) {
            buffer.clear();
            return "ValueError";
        }
        if (!ended) return std::nullopt;
        return take(buffer.size());
    }
};

Coro<std::string> carry_out(coil::StreamReader reader, Operation operation) {
    std::string error;
    try {
        switch (operation.kind) {
            case Operation::Kind::READ:
                co_return co_await reader.read(static_cast<std::ptrdiff_t>(operation.size));
            case Operation::Kind::EXACTLY:
                co_return co_await reader.readexactly(operation.size);
            case Operation::Kind::UNTIL:
                co_return co_await reader.readuntil(operation.separators);
            case Operation::Kind::LINE:
                co_return co_await reader.readline();
        }
    } catch (const coil::IncompleteReadError& e) {
        error = "IncompleteRead " + e.partial();
    } catch (const coil::LimitOverrunError& e) {
        error = "LimitOverrun " + std::to_string(e.consumed());
    } catch (const coil::ValueError&) {
        error = "ValueError";
    }
    co_return error;
}

Operation next_operation(Input& input) {
    Operation operation{.kind = static_cast<Operation::Kind>(input.number(4))};
    operation.size = input.number(40);
    if (operation.kind == Operation::Kind::UNTIL) {
        for (std::size_t count = 1 + input.number(3); count > 0; --count) {
            operation.separators.push_back(input.text(2));
            operation.separators.back() += "ab\r\n;"[input.number(5)];
        }
    }
    return operation;
}

void check(bool good) {
    if (!good) std::abort();
}

Coro<> run_program(Input input) {
    std::size_t limit = 1 + input.number(20);
    coil::StreamReader reader(limit);
    Model model{.limit = limit};
    auto feed = [&] {
        if (input.empty() || input.number(16) == 0) {
            if (!model.ended) reader.feed_eof();
            model.ended = true;
        } else if (!model.ended) {
            std::string text = input.text(30);
            reader.feed_data(text);
            model.buffer += text;
        }
    };
    while (!input.empty()) {
        if (input.number(2) == 0) feed();
        Operation operation = next_operation(input);
        auto task = coil::create_task(carry_out(reader, operation));
        co_await coil::sleep(std::chrono::seconds(0));
        auto expected = model.carry_out(operation);
        while (!expected) {
            check(!task.done());
            feed();
            co_await coil::sleep(std::chrono::seconds(0));
            co_await coil::sleep(std::chrono::seconds(0));
            expected = model.carry_out(operation);
        }
        check(task.done());
        std::string got = co_await task;
        check(got == *expected);
        check(reader.at_eof() == (model.ended && model.buffer.empty()));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    coil::run(run_program(Input(std::span(data, size))), {.loop_factory = coil::testing::virtual_loop});
    return 0;
}
