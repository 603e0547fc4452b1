#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "coil/detail/task_base.hpp"
#include "coil/events.hpp"
#include "loop/inbox.hpp"

namespace coil::detail {

class JobWait;

/// One blocking call. Shared by the waiting coroutine and the thread; comes back through the loop's inbox.
struct Job : Runnable {
    Job() : Runnable(&Job::arrive) {}
    inline static void arrive(Runnable& self, How how);
    std::function<void()> work;
    std::exception_ptr error;
    JobWait* waiter = nullptr;          // the loop's thread only
    std::shared_ptr<Job> keeps_itself;  // while the inbox has it
};

class JobWait final : public LeafWaiter, public OperationTag {
  public:
    JobWait(std::shared_ptr<Job> job, std::string what) noexcept
        : job_(std::move(job)), what_(std::move(what)) {}
    ~JobWait() { job_->waiter = nullptr; }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        job_->waiter = this;
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const override { return what_; }
    void arrived() noexcept {
        if (pending()) wake();
    }

  private:
    std::shared_ptr<Job> job_;
    std::string what_;
};

void Job::arrive(Runnable& self, How how) {
    auto job = std::move(static_cast<Job&>(self).keeps_itself);
    if (how == How::RUN && job->waiter) job->waiter->arrived();
}

template <class F>
Coro<std::invoke_result_t<F&>> in_thread(EventLoop& loop, std::string what, F f) {
    using R = std::invoke_result_t<F&>;
    auto job = std::make_shared<Job>();
    auto result = std::make_shared<std::optional<R>>();
    job->work = [f = std::move(f), result]() mutable { result->emplace(f()); };
    std::thread([job, inbox = loop.core().inbox]() mutable {
        try {
            job->work();
        } catch (...) {
            job->error = std::current_exception();
        }
        Job& done = *job;
        done.keeps_itself = std::move(job);
        if (!inbox->push(done)) auto loop_is_closed = std::move(done.keeps_itself);
    }).detach();
    co_await JobWait(job, std::move(what));
    if (job->error) std::rethrow_exception(job->error);
    co_return std::move(**result);
}

}  // namespace coil::detail
