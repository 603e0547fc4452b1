// Fetches web pages, several at a time.
//
//     fetch [--limit N] [--timeout SECONDS] [URL…]
//
// Without URLs it starts a server of its own on loopback and fetches three pages from that.

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <coil/coil.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "demo_server.hpp"
#include "http_client.hpp"

using coil::Coro;

namespace {

struct Arguments {
    HttpClient::Limits limits;
    std::vector<std::string> urls;
};

constexpr const char* USAGE = "usage: fetch [--limit N] [--timeout SECONDS] [URL...]\n";

double parse_number(std::string_view text) {
    double number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !(number > 0) || number > 1e6)
        throw coil::ValueError(fmt::format("'{}' is no number above zero", text));
    return number;
}

Arguments parse_arguments(int argc, char** argv) {
    Arguments arguments;
    for (int i = 1; i < argc; ++i) {
        std::string_view word = argv[i];
        if (word == "--limit" || word == "--timeout") {
            if (++i == argc) throw coil::ValueError(fmt::format("{} wants a number", word));
            double number = parse_number(argv[i]);
            if (word == "--limit") {
                if (number < 1) throw coil::ValueError("--limit is at least 1");
                arguments.limits.concurrent_requests = static_cast<std::ptrdiff_t>(number);
            } else {
                arguments.limits.per_request =
                    std::chrono::duration_cast<coil::Duration>(std::chrono::duration<double>(number));
            }
        } else if (word.starts_with("--")) {
            throw coil::ValueError(fmt::format("unknown option {}", word));
        } else {
            arguments.urls.emplace_back(word);
        }
    }
    return arguments;
}

/// "3 of 10 pages", rewritten in place; only where a person is looking.
class ProgressLine {
  public:
    explicit ProgressLine(std::size_t total) : total_(total), visible_(::isatty(STDERR_FILENO) != 0) {
        show(0);
    }
    ~ProgressLine() {
        if (visible_) fmt::print(stderr, "\r\033[K");
    }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void show(std::size_t done) const {
        if (visible_) fmt::print(stderr, "\r{} of {} pages", done, total_);
    }

  private:
    std::size_t total_;
    bool visible_;
};

/// Fetches and prints; gives the number of failures.
Coro<int> fetch(HttpClient::Limits limits, std::vector<std::string> urls) {
    HttpClient client(limits);
    auto body = [&](HttpClient& open) -> Coro<std::vector<Page>> {
        ProgressLine line(urls.size());
        auto progress = [&line](std::size_t done) { line.show(done); };
        co_return co_await open.fetch_all(urls, progress);
    };
    std::vector<Page> pages = co_await coil::async_with(client, body);

    int failures = 0;
    for (const Page& page : pages) {
        if (page.error.empty()) {
            fmt::print("{}: {} bytes\n", page.url, page.response.body.size());
        } else {
            ++failures;
            std::fflush(stdout);
            fmt::print(stderr, "{}: error: {}\n", page.url, page.error);
        }
    }
    co_return failures;
}

Coro<int> fetch_main(Arguments arguments) {
    if (!arguments.urls.empty()) co_return co_await fetch(arguments.limits, std::move(arguments.urls));
    coil::Server server = co_await start_demo_server();
    auto body = [&]() -> Coro<int> { co_return co_await fetch(arguments.limits, demo_urls(server)); };
    co_return co_await coil::async_with(server, body);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && (std::string_view(argv[1]) == "--help" || std::string_view(argv[1]) == "-h")) {
        fmt::print("{}", USAGE);
        return 0;
    }
    try {
        return coil::run(fetch_main(parse_arguments(argc, argv))) == 0 ? 0 : 1;
    } catch (const coil::KeyboardInterrupt&) {
        fmt::print(stderr, "interrupted\n");
        return 130;
    } catch (const coil::ValueError& e) {
        fmt::print(stderr, "fetch: {}\n{}", e.what(), USAGE);
        return 2;
    } catch (const std::exception& e) {
        fmt::print(stderr, "fetch: {}\n", e.what());
        return 1;
    }
}
