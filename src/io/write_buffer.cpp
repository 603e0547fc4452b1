#include "io/write_buffer.hpp"

namespace coil::detail {

void WriteBuffer::append(std::string_view data) {
    if (data.empty()) return;
    if (!pieces_) pieces_ = std::make_unique<Pieces>();
    // What one turn adds in small pieces goes out in one call.
    constexpr std::size_t SHARE = 16 * 1024;
    auto& all = pieces_->all;
    if (pieces_->first < all.size() && all.back().size() + data.size() <= SHARE) {
        all.back().append(data);
    } else {
        all.emplace_back(data);
    }
    pieces_->size += data.size();
}

std::size_t WriteBuffer::peek(std::span<std::string_view> parts) const noexcept {
    if (!pieces_) return 0;
    std::size_t count = 0;
    for (std::size_t i = pieces_->first; i < pieces_->all.size() && count < parts.size(); ++i)
        parts[count++] = pieces_->all[i];
    parts[0].remove_prefix(pieces_->sent);
    return count;
}

void WriteBuffer::drop(std::size_t size) {
    if (size == this->size()) return clear();
    auto& [all, first, sent, left] = *pieces_;
    left -= size;
    while (size > 0) {
        std::size_t rest = all[first].size() - sent;
        if (size < rest) {
            sent += size;
            break;
        }
        size -= rest;
        sent = 0;
        std::string().swap(all[first]);
        ++first;
    }
    if (first * 2 > all.size()) {
        all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first));
        first = 0;
    }
}

}  // namespace coil::detail
