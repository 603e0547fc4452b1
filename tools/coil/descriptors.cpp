#include "tools/coil/descriptors.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace coil::tools {

namespace {

/// An address of /proc/net/tcp: hexadecimal groups of four bytes, each in the machine's order, and the port.
std::string address_text(const std::string& text) {
    constexpr std::size_t DIGITS = 8;  // of a group
    std::size_t colon = text.find(':');
    std::size_t groups = colon / DIGITS;
    if (colon == std::string::npos || (groups != 1 && groups != 4)) return {};
    std::array<std::uint32_t, 4> bytes{};
    for (std::size_t i = 0; i < groups; ++i)
        bytes[i] = static_cast<std::uint32_t>(std::stoul(text.substr(DIGITS * i, DIGITS), nullptr, 16));
    std::array<char, INET6_ADDRSTRLEN> name{};
    ::inet_ntop(groups == 1 ? AF_INET : AF_INET6, bytes.data(), name.data(), name.size());
    const char* host = name.data();
    unsigned long port = std::stoul(text.substr(colon + 1), nullptr, 16);
    return groups == 1 ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

}  // namespace

Descriptors::Descriptors(pid_t pid) : pid_(pid) {
    for (const char* table : {"tcp", "tcp6", "udp", "udp6"}) {
        std::ifstream lines(fmt::format("/proc/{}/net/{}", pid, table));
        std::string line;
        std::getline(lines, line);  // the titles
        while (std::getline(lines, line)) {
            std::istringstream fields(line);
            std::string number, local, peer, state, queues, timer, retransmits, user, timeout, inode;
            fields >> number >> local >> peer >> state >> queues >> timer >> retransmits >> user >> timeout >>
                inode;
            peers_[inode] = address_text(peer);
        }
    }
}

std::string Descriptors::describe(int descriptor) const {
    std::error_code error;
    std::string link = std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", pid_, descriptor), error);
    if (link.starts_with("/")) return link;
    constexpr std::string_view SOCKET = "socket:[";
    if (!link.starts_with(SOCKET)) return {};
    auto found = peers_.find(link.substr(SOCKET.size(), link.size() - SOCKET.size() - 1));
    return found == peers_.end() ? std::string() : fmt::format("to {}", found->second);
}

}  // namespace coil::tools
