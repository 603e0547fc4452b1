// A StreamReader that is fed by hand: readline, an unfinished last line, iteration, read(n), read to the end, at_eof.

#include "scenario.hpp"

namespace conformance {

static void show(const char* label, std::string_view data) {
    std::string text;
    for (char c : data) c == '\n' ? text += "\\n" : text += c;
    print(label, text.empty() ? "(empty)" : text);
}

static Coro<> main() {
    coil::StreamReader lines;
    lines.feed_data("first\nsecond\npart");
    show("line", co_await lines.readline());
    show("line", co_await lines.readline());
    auto t = coil::create_task(lines.readline());
    co_await coil::sleep(0s);
    print("waiting", yn(!t.done()));
    lines.feed_data("ial\nlast");
    show("line", co_await t);
    lines.feed_eof();
    show("unterminated line", co_await lines.readline());
    show("after EOF", co_await lines.readline());
    print("at_eof", yn(lines.at_eof()));

    coil::StreamReader iterated;
    iterated.feed_data("a\nb\nc");
    iterated.feed_eof();
    while (auto line = co_await iterated.next()) show("iter", *line);

    coil::StreamReader bytes;
    bytes.feed_data("0123456789");
    show("read(4)", co_await bytes.read(4));
    show("read(0)", co_await bytes.read(0));
    show("read(100)", co_await bytes.read(100));
    t = coil::create_task(bytes.read());
    co_await coil::sleep(0s);
    bytes.feed_data("x");
    co_await coil::sleep(0s);
    bytes.feed_data("y");
    print("read() waits for EOF", yn(!t.done()));
    bytes.feed_eof();
    show("read()", co_await t);
    show("read() again", co_await bytes.read());
}

SCENARIO("151_reader_lines") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
