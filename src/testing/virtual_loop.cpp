#include "coil/testing/virtual_loop.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "coil/exceptions.hpp"
#include "coil/stacks.hpp"
#include "coil/tasks.hpp"
#include "platform/poller.hpp"

namespace coil::testing {

namespace {

std::string list_stuck_tasks() {
    std::string text = "deadlock: nothing is ready, no timer is set, and these tasks wait:";
    auto tasks = all_tasks();
    if (tasks.empty()) text += "\n  (no task: the loop was asked to run for ever)";
    for (const Task<>& task : tasks) text += "\n  " + detail::describe_stuck(task.task());
    return text;
}

class VirtualPoller final : public detail::Poller {
  public:
    std::string_view name() const noexcept override { return "virtual"; }
    TimePoint now() const noexcept override { return now_; }

    void add(detail::Watch&) override { throw_os_error(ENOSYS, "a virtual loop watches no descriptors"); }
    void set_interest(detail::Watch&, std::uint8_t) override {}
    void remove(detail::Watch&) noexcept override {}
    void attach_wakeup(int fd) override { wakeup_ = fd; }

    void wait(TimePoint deadline) override {
        pollfd woken{wakeup_, POLLIN, 0};
        // What other threads do takes no time.
        int limit = get_running_loop().core().awaited_elsewhere > 0 ? -1 : 0;
        if (::poll(&woken, 1, limit) != 0) {  // another thread, or a signal
            std::uint64_t count = 0;
            [[maybe_unused]] ssize_t size = ::read(wakeup_, &count, sizeof count);
            return;
        }
        if (deadline == TimePoint::max()) throw DeadlockError(list_stuck_tasks());
        if (deadline > now_) now_ = deadline;
    }
    void look(bool) override {}

  private:
    TimePoint now_{std::chrono::seconds(1)};
    int wakeup_ = -1;
};

}  // namespace

std::unique_ptr<EventLoop> virtual_loop() {
    return std::make_unique<EventLoop>(std::make_unique<VirtualPoller>());
}

}  // namespace coil::testing
