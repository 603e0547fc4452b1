#pragma once

// The door to the kernel: "watch this descriptor; carry out this operation; tell me what is ready or finished; sleep until a
// deadline; wake up". A poller never runs a callback: it lists the watches that became ready, and the loop asks them what to
// queue.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "coil/detail/list.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

enum : std::uint8_t {
    READABLE = 1,
    WRITABLE = 2,
    CLOSED = 4,  // the peer has closed its side, or the descriptor has failed
};

/// One descriptor under watch. Owned by whoever added it, at a fixed address from add() to remove().
struct Watch {
    /// LEVEL: listed by every poll while ready for what `interest` says. EDGE: listed when something new happens in either
    /// direction; `ready` then accumulates, and the owner clears what it has used up.
    enum class Mode : std::uint8_t { LEVEL, EDGE };

    Watch(int descriptor, Mode watch_mode, void (*notify_function)(Watch&)) noexcept
        : notify(notify_function), fd(descriptor), mode(watch_mode) {}
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    void (*notify)(Watch&);  // called by the loop after poll(): queues, runs nothing
    Watch* next_ready = nullptr;
    std::uint32_t slot = 0;  // the backend's
    int fd;
    Mode mode;
    std::uint8_t interest = 0;  // of LEVEL ones: READABLE, WRITABLE
    std::uint8_t ready = 0;
    bool listed = false;
    bool is_socket = false;  // surely: nobody need ask what it is
};

/// A call on a file that the kernel carries out in the background: what has no readiness to wait for. Listed, as a watch that
/// is ready, when it is finished. Until then the poller holds it: neither it nor the memory it refers to may go.
struct KernelOp : Watch, ListNode {
    enum class Kind : std::uint8_t { OPEN, READ, WRITE, SYNC, SYNC_DATA, STATUS, TRUNCATE, CLOSE };
    static constexpr std::int64_t UNFINISHED = INT64_MIN;
    static constexpr std::size_t MOST = 0x7ffff000;  // bytes that Linux moves at once

    KernelOp(Kind what, void (*notify_function)(Watch&)) noexcept
        : Watch(-1, Mode::EDGE, notify_function), kind(what) {}

    Kind kind;
    bool held = false;       // by the poller
    bool in_kernel = false;  // the rest is the poller's
    bool cancelled = false;

    const char* path = nullptr;  // OPEN
    int flags = 0;
    unsigned mode = 0;
    void* memory = nullptr;    // READ, WRITE; STATUS: of a struct statx
    std::size_t size = 0;      // no more than MOST
    std::int64_t offset = -1;  // READ, WRITE: -1 is the descriptor's own position; TRUNCATE: the new size
    std::int64_t result = UNFINISHED;  // what the system call gives, or a negative errno
};

/// Carries it out here and now: blocks. For a thread that may.
void perform(KernelOp& operation) noexcept;

class Poller {
  public:
    virtual ~Poller() = default;

    virtual std::string_view name() const noexcept = 0;
    /// The clock of all deadlines.
    virtual TimePoint now() const noexcept = 0;

    /// OSError if the descriptor is not open or cannot be watched (a regular file).
    virtual void add(Watch& watch) = 0;
    virtual void set_interest(Watch& watch, std::uint8_t interest) = 0;
    /// The watch is not touched afterwards. Before the descriptor is closed.
    virtual void remove(Watch& watch) noexcept = 0;

    /// Lists what is ready. Blocks until something is, the deadline has come or the wake-up descriptor was written to.
    virtual void wait(TimePoint deadline) = 0;
    /// Lists what is ready, without waiting. May do nothing where a look costs more than it is worth: after a short batch
    /// of callbacks, soon after the last look.
    virtual void look(bool long_batch) = 0;
    /// Whether a look can find anything.
    bool watching() const noexcept { return watches_ > 0; }
    /// Hands changes over now that may otherwise wait for the next turn.
    virtual void flush() {}
    /// The descriptor that other threads write to. Once, before the first wait.
    virtual void attach_wakeup(int fd) = 0;

    /// Whether start() takes such operations.
    virtual bool supports(KernelOp::Kind) const noexcept { return false; }
    /// While the loop runs. The operation begins with the next wait or look.
    virtual void start(KernelOp&) noexcept {}
    /// True: it had not begun, never will, and is not held any more. False: the kernel was asked to hurry; it is listed as usual
    /// when the kernel has let go, whatever its result.
    virtual bool cancel(KernelOp&) noexcept { return false; }
    /// The loop stops running: returns when the kernel holds no operation. What had to be interrupted for that begins again with
    /// the next wait or look, which may be in another thread.
    virtual void settle() noexcept {}

    /// The next watch listed by wait() or look(); null when there is none left.
    Watch* take_ready() noexcept {
        Watch* watch = first_ready_;
        if (watch) {
            first_ready_ = std::exchange(watch->next_ready, nullptr);
            if (!first_ready_) last_ready_ = nullptr;
            watch->listed = false;
        }
        return watch;
    }

  protected:
    void list(Watch& watch, std::uint8_t events) noexcept {
        watch.ready = static_cast<std::uint8_t>(watch.ready | events);
        if (watch.listed) return;
        watch.listed = true;
        (last_ready_ ? last_ready_->next_ready : first_ready_) = &watch;
        last_ready_ = &watch;
    }
    bool anything_listed() const noexcept { return first_ready_ != nullptr; }
    /// What a poll mask means for this watch.
    static std::uint8_t events_of(const Watch& watch, unsigned mask) noexcept;

    std::size_t watches_ = 0;

  private:
    Watch* first_ready_ = nullptr;
    Watch* last_ready_ = nullptr;
};

/// "uring", "epoll", or empty: io_uring where it can be set up, else epoll. OSError if the named one cannot be had;
/// ValueError for another name. Defined in backend.cpp, the one place that names the backends.
std::unique_ptr<Poller> make_poller(std::string_view name);

/// What a sleeping poller is woken with: a descriptor that any thread, and a signal handler, may write to. It is watched for
/// edges and never read.
class Wakeup {
  public:
    Wakeup();
    ~Wakeup();
    Wakeup(const Wakeup&) = delete;
    Wakeup& operator=(const Wakeup&) = delete;

    int fd() const noexcept { return fd_; }
    void wake() noexcept;

  private:
    int fd_;
};

/// The thread that the kernel gives the process's signals to first.
bool in_main_thread() noexcept;
int process_id() noexcept;
/// The kernel's number of the calling thread.
int thread_id() noexcept;

}  // namespace coil::detail
