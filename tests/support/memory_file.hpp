#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

namespace support {

/// A file in memory with this text, its position at the end.
class MemoryFile {
  public:
    explicit MemoryFile(const std::string& text) : fd_(::memfd_create("file", MFD_CLOEXEC)) {
        EXPECT_EQ(::write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    int fileno() const { return fd_; }
    off_t position() const { return ::lseek(fd_, 0, SEEK_CUR); }

  private:
    int fd_;
};

}  // namespace support
