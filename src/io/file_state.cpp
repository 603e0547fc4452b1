#include "io/file_state.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <system_error>

#include "base/inspection.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "io/queued_watch.hpp"

namespace coil::detail {

std::string in_quotes(const std::string& path) {
    char quote = path.find('\'') != std::string::npos && path.find('"') == std::string::npos ? '"' : '\'';
    std::string text(1, quote);
    for (char c : path) {
        if (c == '\\' || c == quote) text += '\\';
        text += c;
    }
    return text + quote;
}

FileState::FileState(std::string path, int fd, int open_flags)
    : path_(std::move(path)), descriptor_(std::make_shared<Descriptor>(fd)), flags_(open_flags) {
    struct stat status{};
    if (::fstat(fd, &status) < 0) throw_os_error(errno);
    if (S_ISDIR(status.st_mode))
        throw_os_error(EISDIR, std::generic_category().message(EISDIR) + ": " + in_quotes(path_));
    off_t at = ::lseek(fd, 0, appends() ? SEEK_END : SEEK_CUR);
    seekable_ = at >= 0;
    if (seekable_) position = at;
    is_pipe_ = !seekable_ && !S_ISREG(status.st_mode);
    // An open file description of our own, so nobody else is surprised.
    if (is_pipe_) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

bool FileState::readable() const noexcept { return (flags_ & O_ACCMODE) != O_WRONLY; }
bool FileState::writable() const noexcept { return (flags_ & O_ACCMODE) != O_RDONLY; }
bool FileState::appends() const noexcept { return (flags_ & O_APPEND) != 0; }

void FileState::check_open() const {
    if (closed_) throw ValueError("I/O operation on closed file");
}
void FileState::check_readable() const {
    if (!readable()) throw OSError("not readable");
}
void FileState::check_writable() const {
    if (!writable()) throw OSError("not writable");
}
void FileState::check_seekable() const {
    if (!seekable_) throw_os_error(ESPIPE);
}

std::size_t FileState::bytes_behind(std::int64_t offset) const noexcept {
    struct stat status{};
    if (offset < 0 || ::fstat(fd(), &status) < 0 || status.st_size <= offset) return 0;
    return static_cast<std::size_t>(status.st_size - offset);
}

std::shared_ptr<FileOperation> FileState::operation(KernelOp::Kind kind, const char* name) const {
    return std::make_shared<FileOperation>(kind, std::string(name) + " " + in_quotes(path_), descriptor_);
}

void FileState::end_use() noexcept {
    if (--uses_ > 0) return;
    idle_.set();
    if (close_when_idle_) descriptor_->close();
}

Coro<int> FileState::take_descriptor(std::shared_ptr<FileState> file) {
    while (file->uses_ > 0) {
        file->idle_.clear();
        auto outcome = co_await try_await(file->idle_.wait());
        if (outcome) continue;
        file->close_when_idle_ = true;
        if (file->uses_ == 0) file->descriptor_->close();
        outcome.value();
    }
    co_return std::exchange(file->descriptor_->fd, -1);
}

// ---- pipes

/// Until the descriptor is readable or writable, or the file is closed.
class PipeWait final : public LeafWaiter, public ListNode, public OperationTag {
  public:
    /// A descriptor is watched once, so waits to write watch a copy of it.
    PipeWait(FileState& file, bool to_write)
        : copy_(to_write ? ::fcntl(file.fd(), F_DUPFD_CLOEXEC, 3) : -1),
          watch_(get_running_loop(), to_write ? copy_.fd : file.fd(), *this),
          wanted_(to_write ? WRITABLE : READABLE),
          name_((to_write ? "File.write " : "File.read ") + in_quotes(file.path())) {
        if (to_write && copy_.fd < 0) throw_os_error(errno);
        watch_.start();
        file.pipe_waits_.push_back(*this);
    }
    ~PipeWait() {
        if (linked()) unlink();
    }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
    }
    void await_resume() {
        watch_.stop();
        throw_if_cancelled();
    }
    std::string describe() const override { return name_; }
    void file_closed() noexcept {
        unlink();
        if (!pending()) return;
        watch_.stop();
        wake();
    }

  private:
    template <class>
    friend struct LayoutOf;

    struct Watching final : QueuedWatch {
        Watching(EventLoop& loop, int fd, PipeWait& wait)
            : QueuedWatch(loop, fd, &Watching::run), owner(wait) {}
        static void run(Runnable& self, How how) {
            auto& watch = static_cast<Watching&>(self);
            watch.dequeued();
            if (how == How::DISCARD || !(watch.ready & watch.owner.wanted_) || !watch.owner.pending()) return;
            watch.stop();
            watch.owner.wake();
        }
        PipeWait& owner;
    };
    void called_off() noexcept override { watch_.stop(); }

    Descriptor copy_;
    Watching watch_;
    std::uint8_t wanted_;
    std::string name_;
};

template <>
struct LayoutOf<PipeWait> {
    static constexpr InspectionPath name = {offsetof(PipeWait, name_)};
};
COIL_INSPECTION_ROWS(pipe_wait) = {
    {"coil::detail::PipeWait", "", InspectionKind::STRING, LayoutOf<PipeWait>::name},
};

void FileState::begin_closing() noexcept {
    closed_ = true;
    while (PipeWait* wait = pipe_waits_.front()) wait->file_closed();
}

namespace {

/// A pipe that nobody reads sends SIGPIPE, which would end the process; what is wanted is the error.
class NoSigpipe {
  public:
    NoSigpipe() noexcept {
        sigemptyset(&sigpipe_);
        sigaddset(&sigpipe_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        ::pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
    }
    ~NoSigpipe() {
        timespec now{};
        if (!was_pending_) ::sigtimedwait(&sigpipe_, nullptr, &now);
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    NoSigpipe(const NoSigpipe&) = delete;
    NoSigpipe& operator=(const NoSigpipe&) = delete;

  private:
    sigset_t sigpipe_;
    sigset_t before_;
    bool was_pending_;
};

ssize_t write_quietly(int fd, const char* memory, std::size_t size) {
    NoSigpipe no_sigpipe;
    ssize_t result = ::write(fd, memory, size);
    return result < 0 ? -errno : result;
}

template <class Call>
Coro<std::size_t> call_when_ready(FileState& file, bool to_write, Call call) {
    for (;;) {
        file.check_open();
        ssize_t result = call();
        if (result >= 0) co_return static_cast<std::size_t>(result);
        if (result == -EAGAIN) {
            PipeWait wait(file, to_write);
            co_await std::move(wait);
        } else if (result != -EINTR) {
            throw_os_error(static_cast<int>(-result));
        }
    }
}

}  // namespace

Coro<std::size_t> read_pipe(FileState& file, char* memory, std::size_t size) {
    auto call = [&file, memory, size] {
        ssize_t result = ::read(file.fd(), memory, size);
        return result < 0 ? ssize_t{-errno} : result;
    };
    return call_when_ready(file, false, call);
}

Coro<std::size_t> write_pipe(FileState& file, const char* memory, std::size_t size) {
    auto call = [&file, memory, size] { return write_quietly(file.fd(), memory, size); };
    return call_when_ready(file, true, call);
}

}  // namespace coil::detail
