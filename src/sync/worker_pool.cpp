#include "sync/worker_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "coil/events.hpp"
#include "loop/inbox.hpp"

namespace coil::detail {

namespace {

/// A forked child has none of its parent's threads, and their mutex may be locked for ever: the child leaves such a pool alone.
std::atomic<unsigned> forks{0};

void watch_forks() {
    static const int registered =
        ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
    static_cast<void>(registered);
}

/// Threads inherit the signal mask of the thread that makes them.
class SignalsBlocked {
  public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        for (int of_the_thread_itself : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
            sigdelset(&all, of_the_thread_itself);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

  private:
    sigset_t before_;
};

}  // namespace

// ---- the pool

struct WorkerPool::State {
    struct Worker {
        std::thread thread;
        bool idle = false;
    };

    explicit State(std::size_t most_threads) noexcept : most(most_threads) {}

    void add_thread(const std::shared_ptr<State>& self) {
        Worker& worker = workers.emplace_back();
        SignalsBlocked blocked;
        try {
            worker.thread = std::thread([self, &worker] { self->serve(worker); });
        } catch (...) {
            workers.pop_back();
            throw;
        }
    }

    void serve(Worker& worker) {
        std::unique_lock lock(mutex);
        for (;;) {
            worker.idle = true;
            ++idle;
            changed.wait(lock, [this] { return stopping || !queue.empty(); });
            --idle;
            if (stopping) return;
            worker.idle = false;
            std::shared_ptr<Work> work = std::move(queue.front());
            queue.pop_front();
            lock.unlock();
            Work& running = *work;
            running.work(std::move(work));
            lock.lock();
            if (stopping) return;
        }
    }

    const std::size_t most;
    unsigned fork = forks.load(std::memory_order_relaxed);
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::shared_ptr<Work>> queue;
    std::deque<Worker> workers;  // never moved in memory
    std::size_t idle = 0;        // waiting; some of them may have been woken for what is queued
    bool stopping = false;
};

WorkerPool::WorkerPool(std::size_t most_threads) {
    watch_forks();
    state_ = std::make_shared<State>(std::max<std::size_t>(most_threads, 1));
}

WorkerPool::~WorkerPool() { shutdown(); }

std::size_t WorkerPool::default_threads() noexcept {
    return std::min<std::size_t>(32, std::thread::hardware_concurrency() + 4);
}

void WorkerPool::submit(std::shared_ptr<Work> work) {
    {
        std::lock_guard lock(state_->mutex);
        State& state = *state_;
        if (state.stopping) throw RuntimeError("cannot schedule new futures after shutdown");
        state.queue.push_back(std::move(work));
        if (state.queue.size() > state.idle && state.workers.size() < state.most) {
            try {
                state.add_thread(state_);
            } catch (const std::system_error&) {
                if (state.workers.empty()) {
                    state.queue.pop_back();
                    throw RuntimeError("can't start new thread");
                }
            }
        }
    }
    state_->changed.notify_one();
}

void WorkerPool::shutdown() noexcept {
    if (state_->fork != forks.load(std::memory_order_relaxed)) {
        [[maybe_unused]] auto* leaked = new (std::nothrow) std::shared_ptr<State>(state_);
        return;
    }
    std::deque<std::shared_ptr<Work>> dropped;
    std::vector<std::thread> ending;
    {
        std::lock_guard lock(state_->mutex);
        if (std::exchange(state_->stopping, true)) return;
        dropped.swap(state_->queue);
        for (State::Worker& worker : state_->workers) {
            if (worker.idle) {
                ending.push_back(std::move(worker.thread));
            } else {
                worker.thread.detach();
            }
        }
    }
    state_->changed.notify_all();
    for (std::thread& thread : ending) thread.join();
}

std::size_t WorkerPool::threads() const {
    std::lock_guard lock(state_->mutex);
    return state_->workers.size();
}

namespace {

/// The loop's pool ends with the loop.
class LoopWorkers final : public LoopResource {
  public:
    explicit LoopWorkers(EventLoop& loop) : core_(loop.core()), pool_(WorkerPool::default_threads()) {
        core_.resources.push_back(*this);
    }
    void loop_closed() noexcept override {
        core_.workers = nullptr;
        delete this;
    }
    WorkerPool& pool() noexcept { return pool_; }
    bool of_this_process() const noexcept { return fork_ == forks.load(std::memory_order_relaxed); }

  private:
    LoopCore& core_;
    WorkerPool pool_;
    unsigned fork_ = forks.load(std::memory_order_relaxed);
};

}  // namespace

WorkerPool& WorkerPool::of(EventLoop& loop) {
    loop.check_closed();
    auto* workers = static_cast<LoopWorkers*>(loop.core().workers);
    if (!workers || !workers->of_this_process()) {
        workers = new LoopWorkers(loop);
        loop.core().workers = workers;
    }
    return workers->pool();
}

// ---- jobs

void Job::submit(std::shared_ptr<Job> job, EventLoop& loop) {
    job->inbox_ = loop.core().inbox;
    job->begun_.store(false, std::memory_order_relaxed);
    WorkerPool::of(loop).submit(job);
    job->core_ = &loop.core();
    ++job->core_->awaited_elsewhere;
}

bool Job::call_off() noexcept {
    // ORDER: nothing is published; whoever comes first has it.
    return !begun_.exchange(true, std::memory_order_relaxed);
}

void Job::forget() noexcept {
    if (LoopCore* core = std::exchange(core_, nullptr)) --core->awaited_elsewhere;
}

void Job::work(std::shared_ptr<Work> self) noexcept {
    if (!begun_.exchange(true, std::memory_order_relaxed)) call();
    std::shared_ptr<Inbox> inbox = std::move(inbox_);
    keeps_itself_ = std::static_pointer_cast<Job>(std::move(self));
    if (!inbox->push(*this)) auto loop_is_closed = std::move(keeps_itself_);
}

void Job::arrive(Runnable& self, How how) {
    auto job = std::move(static_cast<Job&>(self).keeps_itself_);
    if (how == How::DISCARD) return;
    job->forget();
    job->arrived();
}

void AwaitedJob::arrived() {
    if (waiter_) {
        if (waiter_->pending()) waiter_->wake();
        return;
    }
    if (!error_ || late_ == LateError::DROP) return;
    thread_state.loop->call_exception_handler(
        {.message = "A call in a thread failed after the task that waited for it was cancelled",
         .exception = error_,
         .details = {{"call", what_}}});
}

}  // namespace coil::detail
