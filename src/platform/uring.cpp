#include "platform/uring.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/forks.hpp"
#include "coil/exceptions.hpp"
#include "platform/clock.hpp"

// A watch is a poll request in the ring: multishot for EDGE, one-shot and re-armed for LEVEL.
//
//   slot             watch   armed   leaves by
//   free             null    no      add()
//   to arm           set     no      arm_pending(), before the next look: a request is queued
//   armed            set     yes     its last completion (to arm again), or remove()
//   removed          null    no      (free at once; its request is cancelled)
//
// A completion may come after its watch is gone: requests carry the slot's generation, and stale ones are dropped.
//
// An operation is a request that carries its address. The kernel holds operations only while the loop runs: only the ring's
// thread can get them back, and at the end of a run it is certain which thread that is.
//
//   held by     in_kernel   leaves by
//   to_start_   no          arm_pending(): a request is queued; or cancel()
//   started_    yes         its completion; interrupted by settle(): back to to_start_
//
// Kernel facts. DEFER_TASKRUN (Linux 6.1): completions are posted only when this thread enters the kernel; without it
// multishot polls interrupt the thread at any time and lose to epoll. It requires SINGLE_ISSUER: the ring belongs to the
// thread that enables it, so a loop that moves to another thread gets a new ring. TASKRUN_FLAG makes the kernel say in
// shared memory that completions wait, so a look without news costs no system call. A poll request holds its file open
// until it is cancelled: remove() queues that, and flush() or the next turn submits it.

#if defined(__SANITIZE_THREAD__)
#define COIL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COIL_THREAD_SANITIZER 1
#endif
#endif
#ifdef COIL_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace coil::detail {

namespace {

// liburing maps and unmaps a ring's memory behind the thread sanitizer's back. So that it does not take two rings that had the
// same addresses one after the other for one that two threads share, the end of a ring happens before the next begins.
#ifdef COIL_THREAD_SANITIZER
char ring_memory;
void sanitizer_ring_begins() { __tsan_acquire(&ring_memory); }
void sanitizer_ring_ends() { __tsan_release(&ring_memory); }
#else
void sanitizer_ring_begins() {}
void sanitizer_ring_ends() {}
#endif

constexpr unsigned ENTRIES = 256;
constexpr unsigned COMPLETIONS = 4096;
constexpr std::uint64_t WAKEUP = ~std::uint64_t{0};
constexpr std::uint64_t IGNORED = WAKEUP - 1;
constexpr std::uint64_t NOT_A_WATCH = std::uint64_t{1} << 63;  // in these two, and in an operation's address

std::uint64_t tag(const KernelOp& operation) noexcept {
    return NOT_A_WATCH | reinterpret_cast<std::uintptr_t>(&operation);
}

/// By a signal; openat() lets the kernel's own numbers out, ERESTARTSYS and its kind (Linux 6.18).
bool interrupted(int result) noexcept { return result == -EINTR || (result <= -512 && result >= -516); }

void prepare(io_uring_sqe* request, const KernelOp& operation) noexcept {
    auto size = static_cast<unsigned>(operation.size);
    auto offset = static_cast<std::uint64_t>(operation.offset);
    switch (operation.kind) {
        case KernelOp::Kind::OPEN:
            io_uring_prep_openat(request, AT_FDCWD, operation.path, operation.flags, operation.mode);
            // Else the kernel first tries with O_NONBLOCK, and opens a FIFO that nobody writes to (Linux 6.18).
            request->flags |= IOSQE_ASYNC;
            break;
        case KernelOp::Kind::READ:
            io_uring_prep_read(request, operation.fd, operation.memory, size, offset);
            break;
        case KernelOp::Kind::WRITE:
            io_uring_prep_write(request, operation.fd, operation.memory, size, offset);
            break;
        case KernelOp::Kind::SYNC:
            io_uring_prep_fsync(request, operation.fd, 0);
            break;
        case KernelOp::Kind::SYNC_DATA:
            io_uring_prep_fsync(request, operation.fd, IORING_FSYNC_DATASYNC);
            break;
        case KernelOp::Kind::STATUS:
            io_uring_prep_statx(request, operation.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS,
                                static_cast<struct statx*>(operation.memory));
            break;
        case KernelOp::Kind::CLOSE:
            io_uring_prep_close(request, operation.fd);
            break;
        case KernelOp::Kind::TRUNCATE:  // not before Linux 6.9
            io_uring_prep_nop(request);
            break;
    }
    io_uring_sqe_set_data64(request, tag(operation));
}

class UringPoller final : public Poller {
  public:
    UringPoller() { set_up(); }
    ~UringPoller() override { tear_down(); }

    std::string_view name() const noexcept override { return "uring"; }
    TimePoint now() const noexcept override { return steady_now(); }

    void add(Watch& watch) override {
        if (!watch.is_socket) check_descriptor(watch.fd);
        if (free_.empty()) {
            slots_.emplace_back();
            free_.reserve(slots_.capacity());
            free_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
        }
        watch.slot = free_.back();
        free_.pop_back();
        slots_[watch.slot].watch = &watch;
        ++watches_;
        queue_arming(watch.slot);
    }
    void set_interest(Watch& watch, std::uint8_t interest) override {
        watch.interest = interest;
        disarm(watch.slot);
        queue_arming(watch.slot);
    }
    void remove(Watch& watch) noexcept override {
        disarm(watch.slot);
        slots_[watch.slot].watch = nullptr;
        --watches_;
        free_.push_back(watch.slot);  // add() has reserved room for every slot
    }
    void attach_wakeup(int fd) override {
        wakeup_ = fd;
        arm_wakeup_ = pending_ = true;
    }

    bool supports(KernelOp::Kind kind) const noexcept override { return kind != KernelOp::Kind::TRUNCATE; }
    void start(KernelOp& operation) noexcept override {
        operation.result = KernelOp::UNFINISHED;
        operation.cancelled = false;
        operation.held = true;
        to_start_.push_back(operation);
        pending_ = true;
        ++watches_;
    }
    bool cancel(KernelOp& operation) noexcept override {
        if (!operation.held) return false;
        operation.cancelled = true;
        if (operation.in_kernel && is_ours()) {
            request_cancellation(operation);
            return false;
        }
        let_go(operation);
        return true;
    }
    void settle() noexcept override {
        if (started_.empty() || !is_ours()) return;
        settling_ = true;
        for (KernelOp* operation = started_.front(); operation; operation = started_.after(*operation)) {
            if (operation->kind != KernelOp::Kind::CLOSE) request_cancellation(*operation);
        }
        while (!started_.empty()) {
            int result = io_uring_submit_and_wait(&ring_, 1);
            collect();
            if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) break;
        }
        settling_ = false;
    }

    void wait(TimePoint deadline) override {
        enter_thread();
        arm_pending();
        if (io_uring_cq_ready(&ring_) == 0 && !anything_listed()) {
            timespec left = time_left(steady_now(), deadline);
            __kernel_timespec timeout{left.tv_sec, left.tv_nsec};
            io_uring_cqe* first = nullptr;
            int result = io_uring_submit_and_wait_timeout(
                &ring_, &first, 1, deadline == TimePoint::max() ? nullptr : &timeout, nullptr);
            if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN && result != -EBUSY)
                throw_os_error(-result, "io_uring_enter failed");
        }
        collect_all();
    }

    void look(bool) override {
        if (enabled_ && !pending_ && io_uring_sq_ready(&ring_) == 0 && io_uring_cq_ready(&ring_) == 0 &&
            !kernel_has_news())
            return;
        enter_thread();
        arm_pending();
        if (io_uring_sq_ready(&ring_) > 0 || kernel_has_news()) io_uring_submit_and_get_events(&ring_);
        collect_all();
    }

    void flush() override {
        // With the events: a poll that is taken back holds its file until its completion is posted.
        if (is_ours() && io_uring_sq_ready(&ring_) > 0) io_uring_submit_and_get_events(&ring_);
    }

  private:
    struct Slot {
        Watch* watch = nullptr;
        std::uint32_t generation = 0;
        bool armed = false;
        bool queued = false;  // in to_arm_
    };

    void set_up() {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                       IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = COMPLETIONS;
        int result = io_uring_queue_init_params(ENTRIES, &ring_, &params);
        if (result < 0) throw_os_error(-result, "io_uring cannot be set up");
        sanitizer_ring_begins();
        exists_ = true;
        if (int error = find_fault(params); error != 0) {
            tear_down();
            throw_os_error(error, "io_uring cannot be used");
        }
    }

    void tear_down() noexcept {
        if (std::exchange(exists_, false)) {
            sanitizer_ring_ends();
            io_uring_queue_exit(&ring_);
        }
        enabled_ = false;
    }

    /// A filter may let a ring be set up and forbid its use, so the other two system calls are tried now, while there is still
    /// a choice. Gives an errno, or 0.
    int find_fault(const io_uring_params& params) {
        if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_NODROP))
            return ENOSYS;
        // Entering a ring that is not enabled fails in one way only.
        if (::syscall(SYS_io_uring_enter, ring_.ring_fd, 0, 0, 0, nullptr, 0) < 0 && errno != EBADFD)
            return errno;
        io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
        if (!probe) return EPERM;
        bool can_poll = io_uring_opcode_supported(probe, IORING_OP_POLL_ADD);
        io_uring_free_probe(probe);
        return can_poll ? 0 : ENOSYS;
    }

    bool is_ours() const noexcept { return enabled_ && owner_ == thread_number(); }

    /// The ring belongs to the thread that polls. In a new thread, and in a forked child, there is a new one.
    void enter_thread() {
        if (is_ours()) return;
        if (enabled_ || !exists_) {
            tear_down();
            set_up();
            for (std::uint32_t i = 0; i < slots_.size(); ++i) {
                slots_[i].armed = false;
                if (slots_[i].watch) queue_arming(i);
            }
            arm_wakeup_ = wakeup_ >= 0;
            pending_ = true;
            // After a fork: they are the parent's.
            while (KernelOp* operation = started_.front()) finish(*operation, -ECANCELED);
        }
        // liburing 2.3 has io_uring_enable_rings() in its header but not in its shared library.
        if (::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0)
            throw_os_error(errno, "io_uring cannot be enabled");
        owner_ = thread_number();
        enabled_ = true;
    }

    static void check_descriptor(int fd) {
        struct stat status{};
        if (::fstat(fd, &status) < 0) throw_os_error(errno);
        // epoll refuses these; a poll request would report them ready for ever.
        if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) throw_os_error(EPERM);
    }

    bool kernel_has_news() const noexcept {
        // ORDER: written by the kernel; liburing reads it the same way.
        unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
        return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    }

    io_uring_sqe* next_request_if_any() noexcept {
        io_uring_sqe* request = io_uring_get_sqe(&ring_);
        if (!request) {
            io_uring_submit(&ring_);
            request = io_uring_get_sqe(&ring_);
        }
        return request;
    }
    io_uring_sqe* next_request() {
        io_uring_sqe* request = next_request_if_any();
        if (!request) throw_os_error(EBUSY, "the io_uring submission queue is stuck");
        return request;
    }

    std::uint64_t tag(std::uint32_t index) const noexcept {
        return (std::uint64_t{slots_[index].generation} << 32) | index;
    }

    void queue_arming(std::uint32_t index) {
        if (slots_[index].queued) return;
        slots_[index].queued = true;
        to_arm_.push_back(index);
        pending_ = true;
    }

    void disarm(std::uint32_t index) noexcept {
        Slot& slot = slots_[index];
        if (slot.armed && is_ours()) {
            if (io_uring_sqe* request = next_request_if_any()) {
                // Not POLL_REMOVE: that fails with EALREADY while an event is on its way, and the poll would stay, with the file.
                io_uring_prep_cancel64(request, tag(index), 0);
                io_uring_sqe_set_data64(request, IGNORED);
                request->flags |= IOSQE_CQE_SKIP_SUCCESS;
            }
        }
        slot.armed = false;
        slot.generation = (slot.generation + 1) & 0x7fffffff;  // keeps tags away from WAKEUP and IGNORED
    }

    void request_cancellation(const KernelOp& operation) noexcept {
        if (io_uring_sqe* request = next_request_if_any()) {
            io_uring_prep_cancel64(request, detail::tag(operation), 0);
            io_uring_sqe_set_data64(request, IGNORED);
            request->flags |= IOSQE_CQE_SKIP_SUCCESS;
        }
    }

    void let_go(KernelOp& operation) noexcept {
        operation.unlink();
        operation.held = operation.in_kernel = false;
        --watches_;
    }
    void finish(KernelOp& operation, std::int64_t result) noexcept {
        let_go(operation);
        operation.result = result;
        list(operation, 0);
    }

    void arm_pending() {
        if (!pending_) return;
        if (arm_wakeup_) {
            io_uring_sqe* request = next_request();
            io_uring_prep_poll_multishot(request, wakeup_, POLLIN);
            io_uring_sqe_set_data64(request, WAKEUP);
            arm_wakeup_ = false;
        }
        for (std::uint32_t index : to_arm_) {
            Slot& slot = slots_[index];
            slot.queued = false;
            if (!slot.watch || slot.armed) continue;
            const Watch& watch = *slot.watch;
            io_uring_sqe* request = next_request();
            if (watch.mode == Watch::Mode::EDGE) {
                io_uring_prep_poll_multishot(request, watch.fd, POLLIN | POLLOUT | POLLRDHUP);
            } else {
                unsigned mask =
                    (watch.interest & READABLE ? POLLIN : 0u) | (watch.interest & WRITABLE ? POLLOUT : 0u);
                io_uring_prep_poll_add(request, watch.fd, mask);
            }
            io_uring_sqe_set_data64(request, tag(index));
            slot.armed = true;
        }
        to_arm_.clear();
        while (KernelOp* operation = to_start_.front()) {
            prepare(next_request(), *operation);
            operation->unlink();
            operation->in_kernel = true;
            started_.push_back(*operation);
        }
        pending_ = false;
    }

    /// One call posts no more than some 20 deferred completions (Linux 6.13), so it asks again while there are more. That the
    /// kernel has news is a hint: it raises the flag after it has queued the work, so this thread may do the work and
    /// lower the flag in between, and then the flag stays up with nothing behind it.
    void collect_all() {
        constexpr unsigned ENOUGH = 256;
        unsigned count = collect();
        while (count < ENOUGH && kernel_has_news()) {
            if (io_uring_get_events(&ring_) < 0) return;
            unsigned more = collect();
            if (more == 0) return;
            count += more;
        }
    }

    unsigned collect() {
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* completion = nullptr;
        io_uring_for_each_cqe(&ring_, head, completion) {
            complete(*completion);
            ++count;
        }
        io_uring_cq_advance(&ring_, count);
        return count;
    }

    void complete(const io_uring_cqe& completion) {
        bool last = !(completion.flags & IORING_CQE_F_MORE);
        if (completion.user_data & NOT_A_WATCH) return complete_other(completion, last);
        auto index = static_cast<std::uint32_t>(completion.user_data);
        Slot& slot = slots_[index];
        if (slot.generation != completion.user_data >> 32 || !slot.watch) return;
        if (last) {
            slot.armed = false;
            queue_arming(index);
        }
        // A request that failed shows as ready, so that the owner's next call on the descriptor meets the error.
        unsigned mask = completion.res < 0 ? unsigned{POLLERR} : static_cast<unsigned>(completion.res);
        list(*slot.watch, events_of(*slot.watch, mask));
    }

    void complete_other(const io_uring_cqe& completion, bool last) {
        if (completion.user_data == IGNORED) return;
        if (completion.user_data == WAKEUP) {
            if (last) arm_wakeup_ = pending_ = true;
            return;
        }
        auto& operation = *reinterpret_cast<KernelOp*>(completion.user_data & ~NOT_A_WATCH);
        bool begins_again = (settling_ && completion.res == -ECANCELED) || interrupted(completion.res);
        if (begins_again && !operation.cancelled && operation.kind != KernelOp::Kind::CLOSE) {
            operation.unlink();
            operation.in_kernel = false;
            to_start_.push_back(operation);
            pending_ = true;
            return;
        }
        finish(operation, completion.res);
    }

    io_uring ring_{};
    bool exists_ = false;   // ring_ is to be torn down
    bool enabled_ = false;  // by the thread owner_
    std::uint64_t owner_ = 0;
    int wakeup_ = -1;
    bool arm_wakeup_ = false;
    std::vector<Slot> slots_;
    std::vector<std::uint32_t> free_;
    std::vector<std::uint32_t> to_arm_;
    bool pending_ = false;  // to_arm_, arm_wakeup_ or to_start_ wants requests
    bool settling_ = false;
    List<KernelOp> to_start_;
    List<KernelOp> started_;
};

}  // namespace

std::unique_ptr<Poller> make_uring_poller() { return std::make_unique<UringPoller>(); }

}  // namespace coil::detail
