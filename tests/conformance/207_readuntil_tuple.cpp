// readuntil with several separators: the one that ends first wins.

#include "scenario.hpp"

namespace conformance {

using Separators = std::vector<std::string>;

static void show(const char* label, std::string_view data) {
    std::string text;
    for (char c : data) c == '\r' ? text += "\\r" : c == '\n' ? text += "\\n" : text += c;
    print(label, text);
}

static Coro<> main() {
    const Separators line_ends{"\n", "\r\n"};
    const Separators line_ends_reversed{"\r\n", "\n"};
    const Separators line_or_semicolon{"\n", ";"};
    const Separators mark_or_word{"!", "END"};
    const Separators mark{"!"};
    const Separators none;
    const Separators with_empty{"", "x"};
    const Separators absent{"zz", "q"};

    coil::StreamReader reader(16);
    reader.feed_data("one\r\ntwo\nthree;four");
    show("a:", co_await reader.readuntil(line_ends));
    show("b:", co_await reader.readuntil(line_ends_reversed));
    show("c:", co_await reader.readuntil(line_or_semicolon));
    auto t = coil::create_task(reader.readuntil(mark_or_word));
    co_await coil::sleep(0s);
    reader.feed_data(" five E");
    co_await coil::sleep(0s);
    print("waiting", yn(!t.done()));
    reader.feed_data("ND six!");
    show("d:", co_await t);
    show("e:", co_await reader.readuntil(mark));
    try {
        co_await reader.readuntil(none);
    } catch (const coil::ValueError&) {
        print("no separator -> ValueError");
    }
    try {
        co_await reader.readuntil(with_empty);
    } catch (const coil::ValueError&) {
        print("empty separator -> ValueError");
    }
    reader.feed_data("0123456789abcdefXYZ");
    try {
        co_await reader.readuntil(absent);
    } catch (const coil::LimitOverrunError& e) {
        print("LimitOverrunError consumed", e.consumed());
    }
    reader.feed_eof();
    try {
        co_await reader.readuntil(absent);
    } catch (const coil::LimitOverrunError& e) {
        print("LimitOverrunError consumed", e.consumed());
    }
    show("rest:", co_await reader.read());
}

SCENARIO("207_readuntil_tuple") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
