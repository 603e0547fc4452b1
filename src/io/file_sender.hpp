#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace coil::detail {

/// One sendfile: how far it is. However it ends, the file's position is left behind the last byte sent, as asyncio does.
class FileSender {
  public:
    /// ValueError for a negative offset or a count below 1; OSError for a descriptor that is not open.
    FileSender(int file, std::int64_t offset, std::optional<std::int64_t> count);
    ~FileSender();
    FileSender(const FileSender&) = delete;
    FileSender& operator=(const FileSender&) = delete;

    enum class Step : std::uint8_t { SENT, WAIT, UNSUPPORTED };
    /// Sends what the socket takes. WAIT: until it is writable. UNSUPPORTED: not this file, or not to this socket. OSError.
    Step step(int socket);
    /// For the way by hand: the next bytes of the file, none at its end. They are sent by the caller, who says how many were.
    std::string_view read_chunk();
    void sent_by_hand(std::size_t size) noexcept {
        total_ += size;
        by_hand_ = true;
    }

    bool done() const noexcept { return ended_ || left() == 0; }
    std::size_t total() const noexcept { return total_; }

  private:
    std::uint64_t left() const noexcept { return count_ ? *count_ - total_ : UINT64_MAX; }

    int file_;
    std::uint64_t offset_;
    std::optional<std::uint64_t> count_;
    std::size_t total_ = 0;
    bool ended_ = false;
    bool by_hand_ = false;  // the kernel could not, and is not asked again
    std::unique_ptr<char[]> chunk_;
};

}  // namespace coil::detail
