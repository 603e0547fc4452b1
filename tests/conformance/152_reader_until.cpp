// StreamReader: readuntil, readexactly and their exceptions.

#include <cstddef>

#include "scenario.hpp"

namespace conformance {

static std::string visible(std::string_view data) {
    std::string text;
    for (char c : data) c == '\r' ? text += "\\r" : c == '\n' ? text += "\\n" : text += c;
    return text.empty() ? "(empty)" : text;
}

template <class A>
static Coro<> attempt(const char* label, A read) {
    try {
        print(label, "->", visible(co_await std::move(read)));
    } catch (const coil::IncompleteReadError& e) {
        print(label, "-> IncompleteReadError partial", visible(e.partial()), "expected",
              e.expected() ? std::to_string(*e.expected()) : "none");
    } catch (const coil::LimitOverrunError& e) {
        print(label, "-> LimitOverrunError consumed", e.consumed());
    } catch (const coil::ValueError&) {
        print(label, "-> ValueError");
    }
}

/// A size that may be negative is not taken: it would have to be narrowed.
template <class Size>
concept TakenAsSize = requires(coil::StreamReader& reader, Size size) { reader.readexactly({size}); };
static_assert(TakenAsSize<std::size_t> && !TakenAsSize<std::ptrdiff_t>);

static Coro<> main() {
    coil::StreamReader reader(8);
    reader.feed_data("key\r\nv");
    co_await attempt("readuntil", reader.readuntil("\r\n"));
    reader.feed_data("alue\r\n");
    co_await attempt("readuntil", reader.readuntil("\r\n"));
    reader.feed_data("0123456789;");
    co_await attempt("found but too long", reader.readuntil(";"));
    co_await attempt("data is still there", reader.readexactly(11));
    reader.feed_data("0123456789");
    co_await attempt("not found, too long", reader.readuntil(";"));
    co_await attempt("readline over limit", reader.readline());
    print("readline dropped the buffer");
    reader.feed_data("0123456789\nok\n");
    co_await attempt("long line", reader.readline());
    co_await attempt("next line survives", reader.readline());
    co_await attempt("empty separator", reader.readuntil(""));
    print("negative size -> ValueError");
    co_await attempt("readexactly 0", reader.readexactly(0));
    reader.feed_data("abc");
    auto t = coil::create_task(reader.readexactly(5));
    co_await coil::sleep(0s);
    reader.feed_data("defg");
    co_await attempt("readexactly 5", t);
    reader.feed_eof();
    co_await attempt("readexactly 5 at EOF", reader.readexactly(5));
    co_await attempt("readexactly again", reader.readexactly(1));
    co_await attempt("readuntil at EOF", reader.readuntil(";"));
}

SCENARIO("152_reader_until") { coil::run(main(), {.loop_factory = new_loop}); }

}  // namespace conformance
