#include "coil/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/c_text.hpp"
#include "coil/contextlib.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "io/file_state.hpp"

namespace coil {

namespace detail {

namespace {

using Kind = KernelOp::Kind;
using FilePtr = std::shared_ptr<FileState>;

constexpr std::size_t FIRST_ROOM = std::size_t{64} << 10;
constexpr std::size_t MOST_ROOM = std::size_t{64} << 20;      // at once, where the size is not known
constexpr std::size_t KNOW_SIZE_FROM = std::size_t{1} << 20;  // bytes that are worth a look at the size first
constexpr std::size_t MOST_FROM_PIPE = std::size_t{1} << 20;  // no pipe of an ordinary user holds more
constexpr std::size_t COPIED = std::size_t{4} << 20;          // at once, through an operation's own buffer

FileState& require(const FilePtr& file) {
    if (!file) throw ValueError("I/O operation on closed file");
    file->check_open();
    return *file;
}

void check_offset(std::int64_t offset) {
    if (offset < 0) throw ValueError("negative seek value " + std::to_string(offset));
}

int flags_of(const std::string& mode) {
    char base = 0;
    bool plus = false;
    bool binary = false;
    bool wrong = false;
    for (char c : mode) {
        if (c == '+') {
            wrong = wrong || std::exchange(plus, true);
        } else if (c == 'b') {
            wrong = wrong || std::exchange(binary, true);
        } else {
            wrong = wrong || std::exchange(base, c) != 0;
        }
    }
    int access = plus ? O_RDWR : base == 'r' ? O_RDONLY : O_WRONLY;
    if (!wrong) {
        if (base == 'r') return access;
        if (base == 'w') return access | O_CREAT | O_TRUNC;
        if (base == 'a') return access | O_CREAT | O_APPEND;
        if (base == 'x') return access | O_CREAT | O_EXCL;
    }
    throw ValueError("invalid mode: " + in_quotes(mode));
}

// ---- reading

/// How much to ask for, after `have` bytes of at most `limit`, when the file seems to have `known` (0: nobody knows).
std::size_t room_for_more(std::size_t have, std::size_t known, std::size_t limit) {
    std::size_t room = std::clamp(have, FIRST_ROOM, MOST_ROOM);
    // One more than there seems to be: a read that is not filled has met the end.
    if (known >= have && known > 0) room = std::max(known - have + 1, std::min(room, std::size_t{4096}));
    return std::min({room, limit - have, KernelOp::MOST});
}

/// Up to `limit` bytes from the offset, or, with -1, from where the descriptor is.
Coro<std::string> read_from(FileState& file, std::int64_t offset, std::size_t limit, const char* name) {
    auto operation = file.operation(Kind::READ, name);
    std::string& buffer = operation->buffer;
    std::size_t known = limit >= KNOW_SIZE_FROM ? file.bytes_behind(offset) : limit;
    std::size_t have = 0;
    while (have < limit) {
        std::size_t room = room_for_more(have, known, limit);
        buffer.resize(have + room);
        operation->memory = buffer.data() + have;
        operation->size = room;
        operation->offset = offset < 0 ? -1 : offset + static_cast<std::int64_t>(have);
        FileWait wait(operation);
        co_await std::move(wait);
        auto got = static_cast<std::size_t>(operation->take_result());
        have += got;
        if (got == 0 || (have == known && got < room)) break;
    }
    buffer.resize(have);
    if (buffer.capacity() / 2 > have) buffer.shrink_to_fit();
    co_return std::move(buffer);
}

Coro<std::size_t> read_from_into(FileState& file, std::int64_t offset, std::span<std::byte> memory) {
    auto operation = file.operation(Kind::READ, "File.read_into");
    std::size_t have = 0;
    while (have < memory.size()) {
        std::span<std::byte> rest = memory.subspan(have);
        if (operation->takes_callers_memory()) {
            operation->size = std::min(rest.size(), KernelOp::MOST);
            operation->memory = rest.data();
        } else {
            operation->size = std::min(rest.size(), COPIED);
            operation->buffer.resize(operation->size);
            operation->memory = operation->buffer.data();
        }
        operation->offset = offset < 0 ? -1 : offset + static_cast<std::int64_t>(have);
        FileWait wait(operation);
        co_await std::move(wait);
        auto got = static_cast<std::size_t>(operation->take_result());
        if (got == 0) break;
        if (!operation->takes_callers_memory()) std::memcpy(rest.data(), operation->memory, got);
        have += got;
    }
    co_return have;
}

Coro<std::string> read_from_pipe(FileState& file, std::ptrdiff_t n) {
    std::string data;
    std::size_t have = 0;
    for (;;) {
        std::size_t room = n < 0 ? std::max(have, FIRST_ROOM) : static_cast<std::size_t>(n);
        data.resize(have + std::min(room, MOST_FROM_PIPE));
        std::size_t got = co_await read_pipe(file, data.data() + have, data.size() - have);
        have += got;
        if (got == 0 || n >= 0) break;
    }
    data.resize(have);
    if (data.capacity() / 2 > have) data.shrink_to_fit();
    co_return data;
}

Coro<std::string> read_file(FilePtr file, std::ptrdiff_t n) {
    require(file).check_readable();
    auto turn = co_await file->reading().scoped();
    FileState::Use use(*file);
    if (n == 0) co_return std::string();
    if (file->is_pipe()) co_return co_await read_from_pipe(*file, n);
    std::size_t limit = n < 0 ? SIZE_MAX : static_cast<std::size_t>(n);
    std::string data = co_await read_from(*file, file->next_offset(), limit, "File.read");
    file->position += static_cast<std::int64_t>(data.size());
    co_return data;
}

Coro<std::size_t> read_file_into(FilePtr file, std::span<std::byte> memory) {
    require(file).check_readable();
    auto turn = co_await file->reading().scoped();
    FileState::Use use(*file);
    if (memory.empty()) co_return 0;
    if (file->is_pipe())
        co_return co_await read_pipe(*file, reinterpret_cast<char*>(memory.data()), memory.size());
    std::size_t got = co_await read_from_into(*file, file->next_offset(), memory);
    file->position += static_cast<std::int64_t>(got);
    co_return got;
}

Coro<std::string> read_file_at(FilePtr file, std::int64_t offset, std::size_t n) {
    require(file).check_readable();
    file->check_seekable();
    check_offset(offset);
    FileState::Use use(*file);
    co_return co_await read_from(*file, offset, n, "File.read_at");
}

// ---- writing

/// Counts in `done` what has been written, whatever happens.
Coro<> write_to(FileState& file, std::int64_t offset, std::string_view data, std::size_t& done) {
    auto operation = file.operation(Kind::WRITE, "File.write");
    while (done < data.size()) {
        std::string_view rest = data.substr(done);
        if (operation->takes_callers_memory()) {
            operation->size = std::min(rest.size(), KernelOp::MOST);
            operation->memory = const_cast<char*>(rest.data());  // only read
        } else {
            operation->buffer.assign(rest.substr(0, COPIED));
            operation->size = operation->buffer.size();
            operation->memory = operation->buffer.data();
        }
        operation->offset = offset < 0 ? -1 : offset + static_cast<std::int64_t>(done);
        FileWait wait(operation);
        auto outcome = co_await try_await(std::move(wait));
        if (operation->result > 0) done += static_cast<std::size_t>(operation->result);
        outcome.value();
        if (operation->take_result() == 0) throw_os_error(EIO);  // Linux does not do that
    }
}

Coro<> write_to_pipe(FileState& file, std::string_view data) {
    while (!data.empty()) {
        std::size_t written = co_await write_pipe(file, data.data(), data.size());
        data.remove_prefix(written);
    }
}

Coro<std::size_t> write_file(FilePtr file, Bytes data) {
    require(file).check_writable();
    auto turn = co_await file->writing().scoped();
    FileState::Use use(*file);
    std::string_view bytes = data.view();
    if (file->is_pipe()) {
        co_await write_to_pipe(*file, bytes);
        co_return bytes.size();
    }
    std::size_t done = 0;
    std::int64_t offset = file->appends() ? -1 : file->next_offset();
    auto outcome = co_await try_await(write_to(*file, offset, bytes, done));
    if (file->appends() && file->seekable()) {
        file->position = ::lseek(file->fd(), 0, SEEK_CUR);  // the kernel has moved it
    } else {
        file->position += static_cast<std::int64_t>(done);
    }
    outcome.value();
    co_return done;
}

Coro<std::size_t> write_file_at(FilePtr file, std::int64_t offset, Bytes data) {
    require(file).check_writable();
    file->check_seekable();
    check_offset(offset);
    FileState::Use use(*file);
    std::size_t done = 0;
    co_await write_to(*file, offset, data.view(), done);
    co_return done;
}

// ---- the file

/// An operation without memory.
Coro<std::int64_t> simple_operation(std::shared_ptr<FileOperation> operation) {
    FileWait wait(operation);
    co_await std::move(wait);
    co_return operation->take_result();
}

Coro<struct statx> status_of(FileState& file) {
    auto operation = file.operation(Kind::STATUS, "File.stat");
    struct statx status{};
    operation->buffer.resize(sizeof status);
    operation->memory = operation->buffer.data();
    co_await simple_operation(operation);
    std::memcpy(&status, operation->memory, sizeof status);
    co_return status;
}

FileStat::Time time_of(const statx_timestamp& time) {
    return FileStat::Time(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

Coro<FileStat> stat_file(FilePtr file) {
    FileState::Use use(require(file));
    struct statx status = co_await status_of(*file);
    FileStat result;
    result.size = status.stx_size;
    result.mode = status.stx_mode;
    result.uid = status.stx_uid;
    result.gid = status.stx_gid;
    result.inode = status.stx_ino;
    result.device = (std::uint64_t{status.stx_dev_major} << 32) | status.stx_dev_minor;
    result.links = status.stx_nlink;
    result.atime = time_of(status.stx_atime);
    result.mtime = time_of(status.stx_mtime);
    result.ctime = time_of(status.stx_ctime);
    co_return result;
}

Coro<std::int64_t> seek_file(FilePtr file, std::int64_t offset, Whence whence) {
    require(file).check_seekable();
    auto turn = co_await file->reading().scoped();
    FileState::Use use(*file);
    std::int64_t from = 0;
    if (whence == Whence::CURRENT) from = file->position;
    if (whence == Whence::END) {
        // lseek() knows the size of devices, too; the descriptor's own position does not matter.
        off_t end = ::lseek(file->fd(), 0, SEEK_END);
        if (end < 0) throw_os_error(errno);
        from = end;
    }
    std::int64_t target = 0;
    if (__builtin_add_overflow(from, offset, &target)) throw_os_error(EOVERFLOW);
    if (target < 0) throw_os_error(EINVAL);
    file->position = target;
    co_return target;
}

Coro<std::int64_t> truncate_file(FilePtr file, std::optional<std::int64_t> size) {
    require(file).check_writable();
    auto turn = co_await file->writing().scoped();
    FileState::Use use(*file);
    auto operation = file->operation(Kind::TRUNCATE, "File.truncate");
    std::int64_t target = size.value_or(file->position);
    operation->offset = target;
    co_await simple_operation(std::move(operation));
    co_return target;
}

Coro<> sync_file(FilePtr file, bool data_only) {
    FileState::Use use(require(file));
    co_await simple_operation(file->operation(data_only ? Kind::SYNC_DATA : Kind::SYNC, "File.sync"));
}

Coro<> flush_file(FilePtr file) {
    require(file);
    co_return;
}

Coro<> close_file(FilePtr file) {
    if (!file || file->closed()) co_return;
    file->begin_closing();
    int fd = co_await FileState::take_descriptor(file);
    auto operation = std::make_shared<FileOperation>(Kind::CLOSE, "File.close " + in_quotes(file->path()));
    operation->fd = fd;
    co_await simple_operation(std::move(operation));
}

}  // namespace

}  // namespace detail

// ---- File

File& File::operator=(File&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
}

File::~File() {
    if (!state_ || state_->closed()) return;
    log(LogLevel::WARNING,
        "unclosed file " + detail::in_quotes(state_->path()) + ": co_await close(), or use async_with");
    state_->begin_closing();
}

detail::FileState& File::state() const { return detail::require(state_); }

Coro<std::string> File::read(std::ptrdiff_t n) { return detail::read_file(state_, n); }
Coro<std::size_t> File::read_into(std::span<std::byte> memory) {
    return detail::read_file_into(state_, memory);
}
Coro<std::size_t> File::write(detail::Bytes data) { return detail::write_file(state_, std::move(data)); }
Coro<std::int64_t> File::seek(std::int64_t offset, Whence whence) {
    return detail::seek_file(state_, offset, whence);
}
Coro<std::string> File::read_at(std::int64_t offset, std::size_t n) {
    return detail::read_file_at(state_, offset, n);
}
Coro<std::size_t> File::write_at(std::int64_t offset, detail::Bytes data) {
    return detail::write_file_at(state_, offset, std::move(data));
}
Coro<> File::flush() { return detail::flush_file(state_); }
Coro<> File::sync(SyncOptions options) { return detail::sync_file(state_, options.data_only); }
Coro<std::int64_t> File::truncate(std::optional<std::int64_t> size) {
    return detail::truncate_file(state_, size);
}
Coro<FileStat> File::stat() { return detail::stat_file(state_); }
Coro<> File::close() { return detail::close_file(state_); }

std::int64_t File::tell() const {
    state().check_seekable();
    return state_->position;
}
bool File::closed() const noexcept { return !state_ || state_->closed(); }
int File::fileno() const { return state().fd(); }
bool File::seekable() const { return state().seekable(); }
bool File::readable() const { return state().readable(); }
bool File::writable() const { return state().writable(); }
const std::string& File::name() const {
    if (!state_) throw ValueError("I/O operation on closed file");
    return state_->path();
}
std::string File::describe() const {
    if (!state_) return "<File closed>";
    const char* modes[] = {"", "r", "w", "r+"};
    return fmt::format(
        "<File {} {}>", detail::in_quotes(state_->path()),
        state_->closed() ? "closed" : modes[(state_->readable() ? 1 : 0) + (state_->writable() ? 2 : 0)]);
}
File& File::enter() {
    state();
    return *this;
}

// ---- functions

Coro<File> open_file(std::string path, std::string mode, OpenFileOptions options) {
    int flags = detail::flags_of(mode) | options.flags | O_CLOEXEC;
    auto operation =
        std::make_shared<detail::FileOperation>(detail::Kind::OPEN, "open_file " + detail::in_quotes(path));
    operation->path_name = path;
    operation->path = detail::c_text(operation->path_name, "embedded null byte");
    operation->flags = flags;
    operation->mode = options.permissions;
    detail::FileWait wait(operation);
    co_await std::move(wait);
    auto fd = static_cast<int>(operation->take_result(detail::in_quotes(path)));
    co_return File(std::make_shared<detail::FileState>(std::move(path), fd, flags));
}

Coro<std::string> read_bytes(std::string path) {
    File file = co_await open_file(std::move(path));
    auto body = [](File& open) -> Coro<std::string> { co_return co_await open.read(); };
    co_return co_await async_with(file, body);
}

Coro<std::size_t> write_bytes(std::string path, detail::Bytes data) {
    File file = co_await open_file(std::move(path), "w");
    auto body = [&data](File& open) -> Coro<std::size_t> { co_return co_await open.write(data.view()); };
    co_return co_await async_with(file, body);
}

}  // namespace coil
