#include "http_client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "url.hpp"

using coil::Coro;
using coil::StreamReader;

namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view BLANK = " \t\r\n";
    std::size_t begin = text.find_first_not_of(BLANK);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(BLANK) - begin + 1);
}

std::size_t parse_size(std::string_view text, int base) {
    std::size_t size = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size, base);
    if (error != std::errc() || end != text.data() + text.size() || text.empty())
        throw BadAnswer(fmt::format("malformed answer: bad length '{}'", text));
    return size;
}

/// A line of the head, without its end. The end of the stream is an error here.
Coro<std::string> read_head_line(StreamReader reader) {
    std::string line = co_await reader.readline();
    if (!line.ends_with('\n'))
        throw BadAnswer("malformed answer: the connection was closed in the middle of the head");
    co_return std::string(trimmed(line));
}

Coro<Response> read_head(StreamReader reader) {
    Response response;
    std::string line = co_await read_head_line(reader);
    // "HTTP/1.1 200 OK"
    constexpr std::size_t STATUS = 9;
    if (!line.starts_with("HTTP/1.") || line.size() < STATUS + 3 || line[STATUS - 1] != ' ')
        throw BadAnswer("malformed answer: no HTTP status line");
    response.status = static_cast<int>(parse_size(std::string_view(line).substr(STATUS, 3), 10));
    response.reason = trimmed(std::string_view(line).substr(STATUS + 3));

    constexpr std::size_t MAX_HEADERS = 200;
    for (;;) {
        line = co_await read_head_line(reader);
        if (line.empty()) co_return response;
        std::size_t colon = line.find(':');
        if (colon == std::string::npos) throw BadAnswer("malformed answer: a header without a colon");
        if (response.headers.size() >= MAX_HEADERS) throw BadAnswer("too many headers");
        response.headers[lower(line.substr(0, colon))] = trimmed(std::string_view(line).substr(colon + 1));
    }
}

Coro<std::string> read_chunks(StreamReader reader, std::size_t most) {
    std::string body;
    for (;;) {
        std::string line = co_await read_head_line(reader);
        std::size_t size = parse_size(trimmed(std::string_view(line).substr(0, line.find(';'))), 16);
        if (size == 0) break;
        if (size > most - body.size()) throw BadAnswer("the page is too large");
        body += co_await reader.readexactly(size);
        std::string end = co_await reader.readexactly(2);
        if (end != "\r\n") throw BadAnswer("malformed answer: a chunk does not end where it should");
    }
    // The trailer: header lines up to an empty one.
    for (;;) {
        std::string line = co_await read_head_line(reader);
        if (line.empty()) co_return body;
    }
}

Coro<std::string> read_to_end(StreamReader reader, std::size_t most) {
    std::string body;
    for (;;) {
        std::string piece = co_await reader.read(64 * 1024);
        if (piece.empty()) co_return body;
        if (piece.size() > most - body.size()) throw BadAnswer("the page is too large");
        body += piece;
    }
}

Coro<std::string> read_body(StreamReader reader, const Response& response, std::size_t most) {
    if (response.status == 204 || response.status == 304) co_return std::string();
    auto encoding = response.headers.find("transfer-encoding");
    if (encoding != response.headers.end()) {
        if (lower(encoding->second) != "chunked")
            throw BadAnswer(fmt::format("unknown transfer encoding '{}'", encoding->second));
        co_return co_await read_chunks(std::move(reader), most);
    }
    auto length = response.headers.find("content-length");
    if (length == response.headers.end()) co_return co_await read_to_end(std::move(reader), most);
    std::size_t size = parse_size(length->second, 10);
    if (size > most) throw BadAnswer("the page is too large");
    co_return co_await reader.readexactly(size);
}

/// What a person wants to read about a failed request.
std::string explain(const std::exception_ptr& error, coil::Duration limit) {
    try {
        std::rethrow_exception(error);
    } catch (const coil::IncompleteReadError& e) {
        return fmt::format("the connection was closed after {} of {} bytes", e.partial().size(),
                           e.expected().value_or(0));
    } catch (const coil::TimeoutError&) {
        return fmt::format("timed out after {} s", std::chrono::duration<double>(limit).count());
    } catch (const std::exception& e) {
        return e.what();
    }
}

}  // namespace

Coro<HttpClient&> HttpClient::aenter() {
    open_ = true;
    idle_.set();
    co_return *this;
}

Coro<> HttpClient::aexit(std::exception_ptr) {
    open_ = false;
    co_await idle_.wait();
}

Coro<Response> HttpClient::get(std::string url) {
    if (!open_) throw coil::RuntimeError("the client is closed: make requests inside its block");
    ++running_;
    idle_.clear();
    auto outcome = co_await coil::try_await(exchange(std::move(url)));
    if (--running_ == 0) idle_.set();
    co_return std::move(outcome).value();
}

Coro<Response> HttpClient::exchange(std::string text) {
    Url url = parse_url(text);
    auto slot = co_await slots_.scoped();
    auto talk = [&]() -> Coro<Response> {
        auto [reader, writer] = co_await coil::open_connection(url.host, url.port);
        auto request_and_answer = [&]() -> Coro<Response> {
            writer.write(
                fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: coil-fetch\r\nAccept: */*\r\n"
                            "Connection: close\r\n\r\n",
                            url.target, url.authority()));
            co_await writer.drain();
            Response response = co_await read_head(reader);
            while (response.status >= 100 && response.status < 200) response = co_await read_head(reader);
            response.body = co_await read_body(reader, response, limits_.body_size);
            co_return response;
        };
        auto hang_up = [&]() -> Coro<> {
            writer.transport()->abort();  // all was read, or nobody wants the rest
            co_return;
        };
        co_return co_await coil::finally(request_and_answer, hang_up);
    };
    co_return co_await coil::wait_for(talk(), limits_.per_request);
}

Coro<> HttpClient::fetch_one(Page& page) {
    auto outcome = co_await coil::try_await(get(page.url));
    if (!outcome) {
        if (outcome.cancelled()) outcome.value();
        page.error = explain(outcome.exception(), limits_.per_request);
        co_return;
    }
    page.response = std::move(outcome).value();
    if (page.response.status < 200 || page.response.status >= 300)
        page.error = fmt::format("{} {}", page.response.status, page.response.reason);
}

Coro<std::vector<Page>> HttpClient::fetch_all(std::vector<std::string> urls,
                                              std::function<void(std::size_t)> progress) {
    std::vector<Page> pages(urls.size());
    std::size_t done = 0;
    auto fetch = [&](Page& page) -> Coro<> {
        co_await fetch_one(page);
        progress(++done);
    };
    auto all = [&](coil::TaskGroup& group) -> Coro<> {
        for (std::size_t i = 0; i < urls.size(); ++i) {
            pages[i].url = urls[i];
            group.create_task(fetch(pages[i]), {.name = urls[i]});
        }
        co_return;
    };
    co_await coil::async_with(coil::TaskGroup(), all);
    co_return pages;
}
