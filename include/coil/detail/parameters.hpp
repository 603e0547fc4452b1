#pragma once

// Parameter types that take several forms of an argument.

#include <concepts>
#include <string>
#include <string_view>

namespace coil {

/// A descriptor's number, or anything that has one: a Socket, a File.
class FileDescriptor {
  public:
    FileDescriptor(int fd) noexcept : fd_(fd) {}
    template <class T>
        requires requires(const T& object) {
            { object.fileno() } -> std::same_as<int>;
        }
    FileDescriptor(const T& object) : fd_(object.fileno()) {}

    int fileno() const noexcept { return fd_; }

  private:
    int fd_;
};

/// A port's number, or a service's name: 80 or "http". Nothing: none.
class Service {
  public:
    Service() = default;
    Service(int port) : text_(std::to_string(port)) {}
    Service(std::string_view name) : text_(name) {}
    Service(const char* name) : text_(name) {}
    Service(const std::string& name) : text_(name) {}

    const std::string& text() const noexcept { return text_; }

  private:
    std::string text_;
};

}  // namespace coil
