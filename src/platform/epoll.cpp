#include "platform/epoll.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "coil/exceptions.hpp"
#include "platform/clock.hpp"

namespace coil::detail {

namespace {

class EpollPoller final : public Poller {
  public:
    EpollPoller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) throw_os_error(errno);
    }
    ~EpollPoller() override { ::close(epoll_); }

    std::string_view name() const noexcept override { return "epoll"; }
    TimePoint now() const noexcept override { return steady_now(); }

    void add(Watch& watch) override {
        control(EPOLL_CTL_ADD, watch);
        if (watch.mode == Watch::Mode::LEVEL) ++levels_;
        ++watches_;
    }
    void set_interest(Watch& watch, std::uint8_t interest) override {
        watch.interest = interest;
        control(EPOLL_CTL_MOD, watch);
    }
    void remove(Watch& watch) noexcept override {
        epoll_event ignored{};
        // Fails only if the descriptor was closed before, which has removed it already.
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, watch.fd, &ignored);
        if (watch.mode == Watch::Mode::LEVEL) --levels_;
        --watches_;
    }
    void attach_wakeup(int fd) override {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;  // every write is an edge, so it is never read
        event.data.ptr = nullptr;
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) throw_os_error(errno);
    }

    void wait(TimePoint deadline) override {
        if (deadline == TimePoint::max()) {
            collect(nullptr);
        } else {
            timespec left = time_left(steady_now(), deadline);
            collect(&left);
        }
    }

    void look(bool long_batch) override {
        // A look is a system call. add_reader() promises one a turn; sockets can wait until it is worth it.
        constexpr unsigned TURNS = 50;
        constexpr std::uint64_t TICKS = 25'000;  // about 10 µs
        if (levels_ == 0 && !long_batch && ++turns_ < TURNS && ticks() - last_look_ < TICKS) return;
        timespec none{};
        collect(&none);
    }

  private:
    void control(int operation, Watch& watch) {
        epoll_event event{};
        event.data.ptr = &watch;
        if (watch.mode == Watch::Mode::EDGE) {
            event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        } else {
            if (watch.interest & READABLE) event.events |= EPOLLIN;
            if (watch.interest & WRITABLE) event.events |= EPOLLOUT;
        }
        if (::epoll_ctl(epoll_, operation, watch.fd, &event) < 0) throw_os_error(errno);
    }

    int wait_for_events(timespec* left) noexcept {
        int size = static_cast<int>(events_.size());
        if (has_pwait2_) {
            int count = ::epoll_pwait2(epoll_, events_.data(), size, left, nullptr);
            if (count >= 0 || errno != ENOSYS) return count;
            has_pwait2_ = false;  // before Linux 5.11
        }
        int milliseconds = -1;
        if (left)
            milliseconds = static_cast<int>(left->tv_sec * 1000 + (left->tv_nsec + 999'999) / 1'000'000);
        return ::epoll_wait(epoll_, events_.data(), size, milliseconds);
    }

    void collect(timespec* left) {
        int count = wait_for_events(left);
        if (count < 0) {
            if (errno != EINTR) throw_os_error(errno);
            count = 0;
        }
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events_[static_cast<std::size_t>(i)];
            if (auto* watch = static_cast<Watch*>(event.data.ptr)) {
                list(*watch, events_of(*watch, event.events));
            }
        }
        turns_ = 0;
        last_look_ = ticks();
    }

    int epoll_;
    std::size_t levels_ = 0;
    unsigned turns_ = 0;
    std::uint64_t last_look_ = 0;
    bool has_pwait2_ = true;
    std::array<epoll_event, 256> events_;
};

}  // namespace

std::unique_ptr<Poller> make_epoll_poller() { return std::make_unique<EpollPoller>(); }

}  // namespace coil::detail
