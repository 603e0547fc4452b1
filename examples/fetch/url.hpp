#pragma once

#include <string>
#include <string_view>

/// The parts of an http URL.
struct Url {
    std::string host;
    int port = 80;
    std::string target = "/";  // path and query

    /// What goes into the Host header.
    std::string authority() const;
};

/// coil::ValueError says what is wrong with it.
Url parse_url(std::string_view text);
