#pragma once

// What a File refers to, and what its operations share.

#include <cstdint>
#include <memory>
#include <string>

#include "coil/files.hpp"
#include "coil/locks.hpp"
#include "io/file_operation.hpp"

namespace coil::detail {

class PipeWait;

/// Used in the loop's thread only.
class FileState {
  public:
    FileState(std::string path, int fd, int open_flags);

    const std::string& path() const noexcept { return path_; }
    int fd() const noexcept { return descriptor_->fd; }
    bool readable() const noexcept;
    bool writable() const noexcept;
    bool appends() const noexcept;
    bool seekable() const noexcept { return seekable_; }
    /// A pipe or a terminal: has readiness, so it is read and written by direct calls.
    bool is_pipe() const noexcept { return is_pipe_; }
    bool closed() const noexcept { return closed_; }
    const std::shared_ptr<Descriptor>& descriptor() const noexcept { return descriptor_; }

    /// A piece of work on the file, or ValueError if it is closed: while it lives, the descriptor stays open.
    class Use {
      public:
        explicit Use(FileState& file) : file_(file) {
            file.check_open();
            ++file.uses_;
        }
        ~Use() { file_.end_use(); }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

      private:
        FileState& file_;
    };

    void check_open() const;
    void check_readable() const;
    void check_writable() const;
    void check_seekable() const;

    /// Of read, write and seek; a pipe's directions have one each.
    Lock& reading() noexcept { return turns_; }
    Lock& writing() noexcept { return is_pipe_ ? other_turns_ : turns_; }

    /// Where the next read or write begins; -1 where the descriptor's own position counts.
    std::int64_t next_offset() const noexcept { return seekable_ ? position : -1; }
    /// Bytes from there to the end, as far as the kernel says: 0 if it does not.
    std::size_t bytes_behind(std::int64_t offset) const noexcept;
    std::shared_ptr<FileOperation> operation(KernelOp::Kind kind, const char* name) const;

    /// Nothing begins any more; who waits for a pipe is woken.
    void begin_closing() noexcept;
    /// Once nothing uses it, the descriptor is the caller's. -1: nobody's, close() was not patient enough.
    static Coro<int> take_descriptor(std::shared_ptr<FileState> file);

    std::int64_t position = 0;  // of a file that has one

  private:
    friend PipeWait;
    void end_use() noexcept;

    std::string path_;
    std::shared_ptr<Descriptor> descriptor_;
    int flags_;
    bool seekable_ = false;
    bool is_pipe_ = false;
    bool closed_ = false;
    bool close_when_idle_ = false;
    unsigned uses_ = 0;
    Lock turns_;
    Lock other_turns_;
    Event idle_;
    List<PipeWait> pipe_waits_;
};

/// Python's repr of a path: "'x'".
std::string in_quotes(const std::string& path);

/// Direct calls that wait for readiness. Gives what one call does.
Coro<std::size_t> read_pipe(FileState& file, char* memory, std::size_t size);
Coro<std::size_t> write_pipe(FileState& file, const char* memory, std::size_t size);

}  // namespace coil::detail
