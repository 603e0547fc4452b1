#include "coil/locks.hpp"

#include <string>

#include "coil/exceptions.hpp"

namespace coil {

namespace detail {

void LoopBound::throw_other_loop(const char* name) {
    throw RuntimeError(std::string(name) + " is bound to a different event loop");
}

void WaitNode::throw_destroyed() const {
    throw RuntimeError(std::string(description_) +
                       ": the object was destroyed before the waiting task could go on");
}

}  // namespace detail

// ---- Lock

bool Lock::try_acquire() noexcept {
    if (locked_ || !waiters_.idle()) return false;
    locked_ = true;
    return true;
}

void Lock::resumed(bool granted, bool cancelled) noexcept {
    if (granted && !cancelled) {
        locked_ = true;
    } else if (!locked_) {
        // The promise of the lock, if there was one, goes to the next; it is the first in line that must be awake.
        if (detail::WaitNode* first = waiters_.front(); first && first->pending()) first->wake();
    }
}

void Lock::release() {
    if (!locked_) throw RuntimeError("Lock is not acquired.");
    locked_ = false;
    if (detail::WaitNode* first = waiters_.front(); first && first->pending()) first->wake();
}

// ---- Event

void Event::set() noexcept {
    if (set_) return;
    set_ = true;
    waiters_.wake_all();
}

// ---- Semaphore

Semaphore::Semaphore(std::ptrdiff_t value) : Semaphore(value, -1) {}

Semaphore::Semaphore(std::ptrdiff_t value, std::ptrdiff_t bound) : value_(value), bound_(bound) {
    if (value < 0) throw ValueError("Semaphore initial value must be >= 0");
}

bool Semaphore::try_acquire() noexcept {
    if (locked()) return false;
    --value_;
    return true;
}

void Semaphore::resumed(bool granted, bool cancelled) noexcept {
    if (granted && cancelled) ++value_;
    // Newcomers have queued behind this waiter whatever the count was: as many go on as there are permits.
    while (value_ > 0 && wake_next()) {
    }
}

bool Semaphore::wake_next() noexcept {
    if (!waiters_.wake_next()) return false;
    --value_;
    return true;
}

void Semaphore::check_release() const {
    if (bound_ >= 0 && value_ >= bound_) throw ValueError("BoundedSemaphore released too many times");
}

}  // namespace coil
