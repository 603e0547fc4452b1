#include "sync/worker_pool.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/forks.hpp"
#include "base/inspection.hpp"
#include "coil/events.hpp"
#include "loop/inbox.hpp"

namespace coil::detail {

namespace {

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

    State(std::size_t most_threads, Signals what_of_signals, std::string thread_names, Begin first) noexcept
        : most(most_threads),
          signals(what_of_signals),
          names(std::move(thread_names)),
          begin(std::move(first)) {}

    void add_thread(const std::shared_ptr<State>& self) {
        std::string name = names.empty() ? "" : names + "_" + std::to_string(workers.size());
        Worker& worker = workers.emplace_back();
        std::optional<SignalsBlocked> blocked;
        if (signals == Signals::BLOCKED) blocked.emplace();
        try {
            worker.thread = std::thread([self, &worker, name] {
                constexpr std::size_t LONGEST = 15;  // pthread_setname_np(3)
                if (!name.empty()) ::pthread_setname_np(::pthread_self(), name.substr(0, LONGEST).c_str());
                self->live(worker);
            });
        } catch (...) {
            workers.pop_back();
            throw;
        }
        ++living;
    }

    void live(Worker& worker) {
        if (!begin || begin()) {
            serve(worker);
        } else {
            give_up();
        }
        std::lock_guard lock(mutex);
        worker.idle = true;
        if (--living == 0) changed.notify_all();
    }

    void give_up() {
        Queue refused;
        {
            std::lock_guard lock(mutex);
            broken = stopping = true;
            refused.swap(queue);
        }
        changed.notify_all();
        for (const auto& work : refused) work->refused();
    }

    void serve(Worker& worker) {
        std::unique_lock lock(mutex);
        for (;;) {
            worker.idle = true;
            ++idle;
            changed.wait(lock, [this] { return stopping || !queue.empty(); });
            --idle;
            waking = false;
            if (queue.empty()) return;
            worker.idle = false;
            std::shared_ptr<Work> work = std::move(queue.front());
            queue.pop_front();
            bool wake = wake_next();
            lock.unlock();
            if (wake) changed.notify_one();
            Work& running = *work;
            running.work(std::move(work));
            lock.lock();
        }
    }

    /// Under the mutex: whether the caller is to wake an idle thread for what is queued. One at a time: each that has come wakes
    /// the next, so that a burst of short calls does not wake threads that find nothing.
    bool wake_next() noexcept {
        if (queue.empty() || idle == 0 || waking) return false;
        return waking = true;
    }

    /// In a forked child the threads are not there, and the mutex may be locked for ever: it leaves such a pool alone.
    bool of_this_process() const noexcept { return fork == forks(); }

    const std::size_t most;
    const Signals signals;
    const std::string names;
    const Begin begin;
    unsigned fork = forks();
    std::mutex mutex;
    std::condition_variable changed;
    Queue queue;
    std::deque<Worker> workers;  // never moved in memory
    std::size_t living = 0;
    std::size_t idle = 0;  // waiting; some of them may have been woken for what is queued
    bool waking = false;   // an idle thread was woken and has not come yet
    bool stopping = false;
    bool broken = false;
};

WorkerPool::WorkerPool(std::size_t most_threads, Signals signals, std::string names, Begin begin)
    : state_(std::make_shared<State>(std::max<std::size_t>(most_threads, 1), signals, std::move(names),
                                     std::move(begin))) {}

WorkerPool::~WorkerPool() {
    if (!of_this_process()) {
        [[maybe_unused]] auto* leaked = new (std::nothrow) std::shared_ptr<State>(std::move(state_));
    } else if (!detached_) {
        shutdown();
    }
}

std::size_t WorkerPool::default_threads() noexcept {
    return std::min<std::size_t>(32, std::thread::hardware_concurrency() + 4);
}

bool WorkerPool::of_this_process() const noexcept { return state_->of_this_process(); }

void WorkerPool::submit(std::shared_ptr<Work> work) {
    if (!of_this_process()) throw RuntimeError("the threads of this pool are the parent process's");
    bool wake = false;
    {
        std::lock_guard lock(state_->mutex);
        State& state = *state_;
        if (state.broken)
            throw BrokenThreadPool("A thread initializer failed, the thread pool is not usable anymore");
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
        wake = state.wake_next();
    }
    if (wake) state_->changed.notify_one();
}

void WorkerPool::close() noexcept {
    if (!state_->of_this_process()) return;
    {
        std::lock_guard lock(state_->mutex);
        state_->stopping = true;
    }
    state_->changed.notify_all();
}

WorkerPool::Queue WorkerPool::take_queued() {
    Queue taken;
    if (!state_->of_this_process()) return taken;
    std::lock_guard lock(state_->mutex);
    taken.swap(state_->queue);
    return taken;
}

void WorkerPool::join() {
    if (!state_->of_this_process()) return;
    std::vector<std::thread> ended;
    {
        std::unique_lock lock(state_->mutex);
        for (State::Worker& worker : state_->workers) {
            if (worker.thread.get_id() == std::this_thread::get_id())
                throw RuntimeError("a thread of the pool cannot wait for the pool's end");
        }
        state_->changed.wait(lock, [this] { return state_->living == 0; });
        for (State::Worker& worker : state_->workers) {
            if (worker.thread.joinable()) ended.push_back(std::move(worker.thread));
        }
    }
    for (std::thread& thread : ended) thread.join();
}

void WorkerPool::detach() noexcept {
    close();
    detached_ = true;
    if (!state_->of_this_process()) return;
    std::lock_guard lock(state_->mutex);
    for (State::Worker& worker : state_->workers) {
        if (worker.thread.joinable()) worker.thread.detach();
    }
}

void WorkerPool::shutdown() noexcept {
    if (!of_this_process()) return;
    Queue dropped;
    std::vector<std::thread> ending;
    {
        std::lock_guard lock(state_->mutex);
        state_->stopping = true;
        dropped.swap(state_->queue);
        for (State::Worker& worker : state_->workers) {
            if (!worker.thread.joinable()) continue;
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

std::string WorkerPool::describe(std::string_view threads) const {
    if (!of_this_process()) return "of another process";
    std::lock_guard lock(state_->mutex);
    return fmt::format("{} of {} {}, {} idle, {} calls queued{}", state_->living, state_->most, threads,
                       state_->idle, state_->queue.size(), state_->stopping ? ", shut down" : "");
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
    bool of_this_process() const noexcept { return fork_ == forks(); }

  private:
    LoopCore& core_;
    WorkerPool pool_;
    unsigned fork_ = forks();
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

template <>
struct LayoutOf<AwaitedJob> {
    static constexpr std::size_t what = offsetof(AwaitedJob, what_);
};
template <>
struct LayoutOf<WorkerWait> {
    static constexpr InspectionPath what = {offsetof(WorkerWait, job_), LayoutOf<AwaitedJob>::what};
};
COIL_INSPECTION_ROWS(worker_wait) = {
    {"coil::detail::WorkerWait", "", InspectionKind::STRING, LayoutOf<WorkerWait>::what},
};

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
