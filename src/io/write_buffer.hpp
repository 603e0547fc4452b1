#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coil::detail {

/// Bytes that the kernel has not taken yet. Without bytes it owns no memory: most connections never need it.
class WriteBuffer {
  public:
    static constexpr std::size_t MAX_PARTS = 64;

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    /// Copies; small pieces go together.
    void append(std::string_view data);
    /// The first bytes, in at most `parts.size()` parts; gives their number.
    std::size_t peek(std::span<std::string_view> parts) const noexcept;
    /// Forgets the first `size` bytes.
    void drop(std::size_t size);
    void clear() noexcept;

  private:
    std::vector<std::string> pieces_;  // before `first_`: sent and empty
    std::size_t first_ = 0;
    std::size_t sent_ = 0;  // bytes of the first piece
    std::size_t size_ = 0;
};

}  // namespace coil::detail
