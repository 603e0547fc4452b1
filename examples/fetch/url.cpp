#include "url.hpp"

#include <fmt/format.h>

#include <charconv>
#include <coil/exceptions.hpp>

std::string Url::authority() const {
    std::string name = host.find(':') == std::string::npos ? host : fmt::format("[{}]", host);
    return port == 80 ? name : fmt::format("{}:{}", name, port);
}

namespace {

int parse_port(std::string_view text) {
    int port = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535)
        throw coil::ValueError(fmt::format("bad port '{}'", text));
    return port;
}

}  // namespace

Url parse_url(std::string_view text) {
    for (char c : text) {
        // They would end the request line: a URL has them percent-encoded.
        if (static_cast<unsigned char>(c) <= ' ' || c == '\x7f') throw coil::ValueError("malformed URL");
    }
    constexpr std::string_view SCHEME = "http://";
    if (text.starts_with("https://")) throw coil::ValueError("https is not supported");
    if (!text.starts_with(SCHEME)) throw coil::ValueError("not an http:// URL");
    text.remove_prefix(SCHEME.size());
    text = text.substr(0, text.find('#'));

    Url url;
    std::size_t path = text.find_first_of("/?");
    if (path != std::string_view::npos) {
        url.target = text.substr(path);
        if (url.target.front() == '?') url.target.insert(0, "/");
        text = text.substr(0, path);
    }
    if (text.find('@') != std::string_view::npos)
        throw coil::ValueError("user names in URLs are not supported");
    std::size_t name_end = text.starts_with('[') ? text.find(']') : text.find(':');
    if (text.starts_with('[')) {
        if (name_end == std::string_view::npos) throw coil::ValueError("malformed URL");
        url.host = text.substr(1, name_end - 1);
        text.remove_prefix(name_end + 1);
    } else {
        url.host = text.substr(0, name_end);
        text.remove_prefix(url.host.size());
    }
    if (text.starts_with(':')) {
        url.port = parse_port(text.substr(1));
    } else if (!text.empty()) {
        throw coil::ValueError("malformed URL");
    }
    if (url.host.empty()) throw coil::ValueError("no host in the URL");
    return url;
}
