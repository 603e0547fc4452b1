#include "io/write_buffer.hpp"

namespace coil::detail {

void WriteBuffer::append(std::string_view data) {
    if (data.empty()) return;
    // What one turn adds in small pieces goes out in one call.
    constexpr std::size_t SHARE = 16 * 1024;
    if (first_ < pieces_.size() && pieces_.back().size() + data.size() <= SHARE) {
        pieces_.back().append(data);
    } else {
        pieces_.emplace_back(data);
    }
    size_ += data.size();
}

std::size_t WriteBuffer::peek(std::span<std::string_view> parts) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = first_; i < pieces_.size() && count < parts.size(); ++i) parts[count++] = pieces_[i];
    if (count > 0) parts[0].remove_prefix(sent_);
    return count;
}

void WriteBuffer::drop(std::size_t size) {
    size_ -= size;
    if (size_ == 0) return clear();
    while (size > 0) {
        std::string& piece = pieces_[first_];
        std::size_t left = piece.size() - sent_;
        if (size < left) {
            sent_ += size;
            return;
        }
        size -= left;
        sent_ = 0;
        std::string().swap(piece);
        ++first_;
    }
    if (first_ * 2 > pieces_.size()) {
        pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(first_));
        first_ = 0;
    }
}

void WriteBuffer::clear() noexcept {
    std::vector<std::string>().swap(pieces_);
    first_ = sent_ = size_ = 0;
}

}  // namespace coil::detail
