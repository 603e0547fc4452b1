#pragma once

#include <coil/coil.hpp>
#include <string>
#include <vector>

/// An HTTP server on loopback with three pages: one of known length, one in chunks, one that ends with the connection.
coil::Coro<coil::Server> start_demo_server();

std::vector<std::string> demo_urls(const coil::Server& server);
