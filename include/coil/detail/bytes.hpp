#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace coil::detail {

/// The bytes of a call that sends: `sock_sendall(s, data)` refers to the caller's bytes, which must live until the call is over,
/// unless it is given a temporary string, which it keeps.
class Bytes {
  public:
    Bytes(std::string_view data) noexcept : view_(data) {}
    Bytes(const char* data) noexcept : view_(data) {}
    Bytes(const std::string& data) noexcept : view_(data) {}
    Bytes(std::string&& data) noexcept : owned_(std::move(data)), is_owned_(true) {}
    Bytes(std::span<const std::byte> data) noexcept
        : view_(reinterpret_cast<const char*>(data.data()), data.size()) {}

    std::string_view view() const noexcept { return is_owned_ ? std::string_view(owned_) : view_; }

  private:
    std::string owned_;
    std::string_view view_;
    bool is_owned_ = false;
};

}  // namespace coil::detail
