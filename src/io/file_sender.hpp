#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "coil/coroutines.hpp"

namespace coil::detail {

class FileOperation;

/// One sendfile: how far it is. However it ends, the file's position is left behind the last byte sent, as asyncio does.
class FileSender {
  public:
    /// ValueError for a negative offset or a count below 1; OSError for a descriptor that is not open.
    FileSender(int file, std::int64_t offset, std::optional<std::int64_t> count);
    ~FileSender();
    FileSender(const FileSender&) = delete;
    FileSender& operator=(const FileSender&) = delete;

    enum class Step : std::uint8_t { SENT, WAIT, UNSUPPORTED };
    /// Sends what the socket takes. WAIT: until it is writable. UNSUPPORTED: it failed at the first byte, for whatever reason, as
    /// asyncio has it; what is wrong with the socket will show on the way by hand. OSError.
    Step step(int socket);
    /// After UNSUPPORTED: SendfileNotAvailableError.
    [[noreturn]] void throw_unavailable() const;
    /// For the way by hand: the next bytes of the file, none at its end; they are there until the next call. They are sent by the
    /// caller, who says how many were. Read as a File is, not in the loop's thread; a cancelled call ends when the reading does.
    Coro<std::string_view> read_chunk();
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
    int error_ = 0;         // why it could not
    std::shared_ptr<FileOperation> reading_;
};

}  // namespace coil::detail
