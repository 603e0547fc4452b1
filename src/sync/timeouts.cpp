#include "coil/timeouts.hpp"

#include <fmt/format.h>

#include <string>

#include "coil/tasks.hpp"

namespace coil {

namespace {

const char* const NAMES[] = {"created", "active", "expiring", "expired", "finished"};

}  // namespace

std::string Timeout::describe() const {
    std::string limit =
        when_ ? fmt::format(" at {:.3f}s", std::chrono::duration<double>(when_->time_since_epoch()).count())
              : "";
    return fmt::format("<Timeout {}{}>", NAMES[static_cast<int>(state_)], limit);
}

Timeout::Timeout(Timeout&& other) noexcept : when_(other.when_) {}

Timeout::~Timeout() {
    timer_.cancel();
    immediate_.cancel();
}

Timeout& Timeout::enter() {
    if (state_ != State::CREATED) throw RuntimeError("Timeout has already been entered");
    if (!detail::thread_state.task) throw RuntimeError("Timeout should be used inside a task");
    state_ = State::ENTERED;
    task_ = detail::thread_state.task;
    cancelling_ = task_->cancelling();
    reschedule(when_);
    return *this;
}

void Timeout::exit(const std::exception_ptr& error) {
    timer_.cancel();
    immediate_.cancel();
    if (state_ == State::ENTERED) {
        state_ = State::EXITED;
        return;
    }
    if (state_ != State::EXPIRING) return;
    state_ = State::EXPIRED;
    if (task_->uncancel() <= cancelling_ && detail::is_cancelled_error(error)) throw TimeoutError(error);
}

void Timeout::reschedule(std::optional<TimePoint> when) {
    if (state_ == State::CREATED) throw RuntimeError("Timeout has not been entered");
    if (state_ != State::ENTERED)
        throw RuntimeError(std::string("Cannot change state of ") + NAMES[static_cast<int>(state_)] +
                           " Timeout");
    when_ = when;
    timer_.cancel();
    immediate_.cancel();
    if (!when) return;
    EventLoop& loop = get_running_loop();
    if (*when <= loop.time()) {
        immediate_ = loop.call_soon([this] { fire(); });
    } else {
        timer_ = loop.call_at(*when, [this] { fire(); });
    }
}

void Timeout::fire() {
    task_->cancel({});
    state_ = State::EXPIRING;
}

Timeout timeout(std::optional<Duration> delay) {
    EventLoop& loop = get_running_loop();
    if (!delay) return Timeout(std::nullopt);
    return Timeout(detail::deadline_after(loop.time(), *delay));
}

Timeout timeout_at(std::optional<TimePoint> when) { return Timeout(when); }

}  // namespace coil
