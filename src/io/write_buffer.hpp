#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coil::detail {

/// Bytes that the kernel has not taken yet. Without bytes it owns no memory: most connections never need it.
class WriteBuffer {
  public:
    static constexpr std::size_t MAX_PARTS = 64;

    std::size_t size() const noexcept { return pieces_ ? pieces_->size : 0; }
    bool empty() const noexcept { return !pieces_; }
    /// Copies; small pieces go together.
    void append(std::string_view data);
    /// The first bytes, in at most `parts.size()` parts; gives their number.
    std::size_t peek(std::span<std::string_view> parts) const noexcept;
    /// Forgets the first `size` bytes.
    void drop(std::size_t size);
    void clear() noexcept { pieces_.reset(); }

  private:
    struct Pieces {
        std::vector<std::string> all;  // before `first`: sent and empty
        std::size_t first = 0;
        std::size_t sent = 0;  // bytes of the first piece
        std::size_t size = 0;
    };
    std::unique_ptr<Pieces> pieces_;  // null while empty
};

}  // namespace coil::detail
