#pragma once

// Room for one result: a value, a reference or nothing at all.

#include <memory>
#include <type_traits>
#include <utility>

#include "coil/fwd.hpp"

namespace coil::detail {

template <class T>
class Box {
  public:
    Box() noexcept {}
    Box(const Box&) = delete;
    Box& operator=(const Box&) = delete;
    ~Box() {
        if (full_) std::destroy_at(&value_);
    }

    template <class... Args>
    void emplace(Args&&... args) {
        std::construct_at(&value_, std::forward<Args>(args)...);
        full_ = true;
    }
    bool full() const noexcept { return full_; }
    T& get() noexcept { return value_; }
    T take() { return std::move(value_); }

  private:
    union {
        T value_;
    };
    bool full_ = false;
};

template <class T>
class Box<T&> {
  public:
    void emplace(T& value) noexcept { value_ = &value; }
    bool full() const noexcept { return value_ != nullptr; }
    T& get() noexcept { return *value_; }
    T& take() noexcept { return *value_; }

  private:
    T* value_ = nullptr;
};

template <>
class Box<void> {
  public:
    void emplace() noexcept {}
    void emplace(None) noexcept {}
    void get() noexcept {}
    void take() noexcept {}
};

/// T, or None where a value is needed and T is void.
template <class T>
using ValueOf = std::conditional_t<std::is_void_v<T>, None, T>;

}  // namespace coil::detail
