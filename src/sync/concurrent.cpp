#include "coil/concurrent.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "coil/detail/thread_state.hpp"
#include "coil/log.hpp"

namespace coil::detail {

std::optional<std::chrono::steady_clock::time_point> real_deadline(std::optional<Duration> timeout) {
    if (!timeout) return std::nullopt;
    return deadline_after(std::chrono::steady_clock::now(), *timeout);
}

namespace {

/// Waits until `ready()`; false when time is up.
template <class Ready>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                std::optional<std::chrono::steady_clock::time_point> deadline, Ready ready) {
    if (deadline && *deadline != TimePoint::max()) return changed.wait_until(lock, *deadline, ready);
    changed.wait(lock, ready);
    return true;
}

}  // namespace

struct ConcurrentState::Sync : Pooled {
    std::mutex mutex;
    std::condition_variable changed;
};

ConcurrentState::ConcurrentState() : sync_(std::make_unique<Sync>()) {}

ConcurrentState::~ConcurrentState() {
    if (!unseen_error_) return;
    log(LogLevel::ERROR_,
        "concurrent::Future's exception was never retrieved\n" + describe_exception(error_));
}

bool ConcurrentState::cancel() {
    {
        std::lock_guard lock(sync_->mutex);
        if (state_ == State::RUNNING || state_ == State::FINISHED) return false;
        if (is_done()) return true;
        state_ = State::CANCELLED;
        sync_->changed.notify_all();
    }
    call_back();
    return true;
}

bool ConcurrentState::cancelled() const {
    std::lock_guard lock(sync_->mutex);
    return state_ == State::CANCELLED || state_ == State::CANCELLED_AND_NOTIFIED;
}

bool ConcurrentState::running() const {
    std::lock_guard lock(sync_->mutex);
    return state_ == State::RUNNING;
}

std::string ConcurrentState::describe() const {
    std::lock_guard lock(sync_->mutex);
    switch (state_) {
        case State::PENDING:
            return "<concurrent.Future pending>";
        case State::RUNNING:
            return "<concurrent.Future running>";
        case State::CANCELLED:
        case State::CANCELLED_AND_NOTIFIED:
            return "<concurrent.Future cancelled>";
        case State::FINISHED:
            break;
    }
    return error_ ? "<concurrent.Future failed with " + describe_exception(error_) + ">"
                  : "<concurrent.Future finished>";
}

bool ConcurrentState::done() const {
    std::lock_guard lock(sync_->mutex);
    return is_done();
}

bool ConcurrentState::failed() const {
    std::lock_guard lock(sync_->mutex);
    return error_ != nullptr;
}

bool ConcurrentState::set_running_or_notify_cancel() {
    std::lock_guard lock(sync_->mutex);
    switch (state_) {
        case State::CANCELLED:
            state_ = State::CANCELLED_AND_NOTIFIED;
            return false;
        case State::PENDING:
            state_ = State::RUNNING;
            return true;
        default:
            throw RuntimeError("Future in unexpected state");
    }
}

ConcurrentState::Ending::Ending(ConcurrentState& state) : state_(state) {
    std::unique_lock lock(state.sync_->mutex);
    if (state.is_done()) throw InvalidStateError("the concurrent future is done already");
    lock.release();
}

ConcurrentState::Ending::~Ending() {
    if (locked_) state_.sync_->mutex.unlock();
}

void ConcurrentState::Ending::finish() {
    state_.state_ = State::FINISHED;
    state_.sync_->changed.notify_all();
    state_.sync_->mutex.unlock();
    locked_ = false;
    state_.call_back();
}

void ConcurrentState::set_exception(std::exception_ptr error) {
    if (!error) throw TypeError("set_exception() needs an exception");
    Ending ending(*this);
    error_ = std::move(error);
    unseen_error_ = true;
    ending.finish();
}

void ConcurrentState::add_done_callback(Callback callback) {
    auto self = shared_from_this();
    {
        std::lock_guard lock(sync_->mutex);
        callbacks_.push_back(std::move(callback));
        if (!is_done()) return;
    }
    call_back();
}

/// Only once it is done: then whoever comes takes what is registered.
void ConcurrentState::call_back() noexcept {
    auto self = shared_from_this();
    std::vector<Callback> callbacks;
    {
        std::lock_guard lock(sync_->mutex);
        callbacks.swap(callbacks_);
    }
    for (Callback& callback : callbacks) {
        try {
            callback(self);
        } catch (...) {
            log(LogLevel::ERROR_, "exception calling a concurrent future's callback\n" +
                                      describe_exception(std::current_exception()));
        }
    }
}

void ConcurrentState::wait(std::optional<Duration> timeout) const {
    std::unique_lock lock(sync_->mutex);
    if (is_done()) return;
    if (loop_ && thread_state.loop == loop_)
        throw RuntimeError("a blocking wait in the thread of the loop that is to compute the result");
    if (!wait_until(sync_->changed, lock, real_deadline(timeout), [this] { return is_done(); }))
        throw TimeoutError();
}

void ConcurrentState::check_result(std::optional<Duration> timeout) {
    if (std::exception_ptr error = exception(timeout)) std::rethrow_exception(error);
}

std::exception_ptr ConcurrentState::exception(std::optional<Duration> timeout) {
    wait(timeout);
    std::lock_guard lock(sync_->mutex);
    if (state_ != State::FINISHED) throw concurrent::CancelledError();
    unseen_error_ = false;
    return error_;
}

std::exception_ptr ConcurrentState::take_error() noexcept {
    std::lock_guard lock(sync_->mutex);
    unseen_error_ = false;
    return error_;
}

// ---- waiting for several

struct ConcurrentEnds::Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::size_t> ended;
};

std::shared_ptr<ConcurrentEnds::Shared> ConcurrentEnds::make() { return std::make_shared<Shared>(); }

void ConcurrentEnds::watch(ConcurrentState& future, std::size_t number) {
    future.add_done_callback([shared = shared_, number](const std::shared_ptr<ConcurrentState>&) {
        std::lock_guard lock(shared->mutex);
        shared->ended.push_back(number);
        shared->changed.notify_one();
    });
}

std::optional<std::size_t> ConcurrentEnds::next(
    std::optional<std::chrono::steady_clock::time_point> deadline) {
    std::unique_lock lock(shared_->mutex);
    if (!wait_until(shared_->changed, lock, deadline, [this] { return !shared_->ended.empty(); }))
        return std::nullopt;
    std::size_t number = shared_->ended.front();
    shared_->ended.pop_front();
    return number;
}

void throw_unfinished(std::size_t unfinished, std::size_t all) {
    throw TimeoutError(std::to_string(unfinished) + " (of " + std::to_string(all) + ") futures unfinished");
}

}  // namespace coil::detail
