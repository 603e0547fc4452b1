#pragma once

// Files. On io_uring the kernel reads and writes in the background; elsewhere a thread of the loop's pool does. Both give the
// same results.
//
//     coil::File file = co_await coil::open_file("data", "r");
//     std::string all = co_await file.read();
//     co_await file.close();
//
// Cancellation. A task that is cancelled while an operation runs goes on, with CancelledError, when the operation is over: the
// memory that it reads or writes is safe until then, and nothing goes on behind the task's back. A cancelled read does not move
// the position, so no byte is lost. A cancelled write may have written a part: `tell()` says how much.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/bytes.hpp"
#include "coil/detail/described.hpp"
#include "coil/fwd.hpp"

namespace coil {

namespace detail {
class FileState;
}

struct OpenFileOptions {
    unsigned permissions = 0666;  // of a new file; the process's umask takes from it
    int flags = 0;                // more of open(2)'s: O_NOFOLLOW, O_SYNC
};

/// What `File::stat()` gives.
struct FileStat {
    using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

    std::uint64_t size = 0;
    unsigned mode = 0;  // type and permissions, as in st_mode
    unsigned uid = 0;
    unsigned gid = 0;
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    unsigned links = 0;
    Time atime{};  // last read
    Time mtime{};  // last written
    Time ctime{};  // last changed, the mode and the owner included

    bool is_file() const noexcept { return (mode & 0170000) == 0100000; }
    bool is_directory() const noexcept { return (mode & 0170000) == 0040000; }
};

struct SyncOptions {
    bool data_only = false;  // fdatasync: without times and what else is not needed to read the data back
};

/// Where `File::seek()` counts from.
enum class Whence { START, CURRENT, END };

/// An open file of bytes, without a buffer of its own. Move-only; a moved-from one is closed. One that is destroyed while open
/// closes its descriptor when the operations on it are over, and says so in the log.
///
/// There is one position, which `read`, `read_into` and `write` move; tasks that use it at the same time take turns, in order
/// of arrival. `read_at` and `write_at` have no turns. OSError for what the kernel refuses; OSError "not readable" or "not
/// writable" if the mode does not allow it; ValueError "I/O operation on closed file".
///
/// Pipes, terminals and the like have no position. Reading waits until there is something, and a cancelled read has taken nothing.
class [[nodiscard]] File {
  public:
    /// No file: closed.
    File() noexcept = default;
    File(File&& other) noexcept = default;
    File& operator=(File&& other) noexcept;
    ~File();

    // ---- at the position

    /// Up to n bytes, fewer only at the end of the file; negative: all until there. From a pipe or terminal: what is there, up
    /// to n, and nothing only at the end.
    Coro<std::string> read(std::ptrdiff_t n = -1);
    /// The same into the caller's memory, which must stay until then. Gives the number of bytes.
    Coro<std::size_t> read_into(std::span<std::byte> memory);
    /// All bytes; gives their number. The bytes must stay until then, but for a temporary string, which is kept. In mode "a" the
    /// kernel puts them at the end of the file.
    Coro<std::size_t> write(detail::Bytes data);
    /// Gives the new position; it may lie behind the end. OSError (ESPIPE) for what has none.
    Coro<std::int64_t> seek(std::int64_t offset, Whence whence = Whence::START);
    /// The descriptor's own position is another one: it stays where it is.
    std::int64_t tell() const;

    // ---- elsewhere

    Coro<std::string> read_at(std::int64_t offset, std::size_t n);
    /// In mode "a" the kernel ignores the offset.
    Coro<std::size_t> write_at(std::int64_t offset, detail::Bytes data);

    // ---- the file

    /// Nothing is buffered here: does nothing. `sync` is what makes data durable.
    Coro<> flush();
    /// Waits until the file is on its medium.
    Coro<> sync(SyncOptions options = {});
    /// Makes the file this long, or as long as the position. Gives the size; the position stays.
    Coro<std::int64_t> truncate(std::optional<std::int64_t> size = {});
    Coro<FileStat> stat();

    /// Waits for operations under way, then closes the descriptor: also if it is cancelled. Who waits for a pipe gets ValueError.
    /// Again: does nothing.
    Coro<> close();
    bool closed() const noexcept;
    int fileno() const;
    bool seekable() const;
    bool readable() const;
    bool writable() const;
    /// The path that it was opened by.
    const std::string& name() const;
    /// In one line, see format.hpp.
    std::string describe() const;

    /// For `async_with`: closes at the end.
    File& enter();
    Coro<> aexit(std::exception_ptr) { return close(); }

    /// For coil's own layers.
    explicit File(std::shared_ptr<detail::FileState> state) noexcept : state_(std::move(state)) {}

  private:
    detail::FileState& state() const;
    std::shared_ptr<detail::FileState> state_;
};

/// Opens a file. Python's modes: "r", "w" (emptied), "a" (writes go to the end), "x" (must be new); "+" adds the other
/// direction; "b" changes nothing, as all are of bytes. ValueError for other modes, text among them. The error for a path names
/// it: "[Errno 2] No such file or directory: 'x'". The descriptor is not inherited by child processes.
Coro<File> open_file(std::string path, std::string mode = "r", OpenFileOptions options = {});

/// The whole file.
Coro<std::string> read_bytes(std::string path);
/// Replaces what the file contained, or makes it; gives the number of bytes.
Coro<std::size_t> write_bytes(std::string path, detail::Bytes data);

template <>
inline constexpr bool detail::DESCRIBED<File> = true;

}  // namespace coil
