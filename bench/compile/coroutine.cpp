// Coroutines without a library: a task, a queue of what is ready, and as much as hello.cpp does with them.

#include <chrono>
#include <coroutine>
#include <cstdio>
#include <deque>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

namespace {

using Clock = std::chrono::steady_clock;

/// A coroutine that runs when it is awaited, and gives an int.
class Task {
  public:
    struct promise_type {
        Task get_return_object() noexcept { return Task(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        struct Return {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) const noexcept {
                return ended.promise().parent;
            }
            void await_resume() const noexcept {}
        };
        Return final_suspend() noexcept { return {}; }
        void return_value(int value) noexcept { result = value; }
        void unhandled_exception() noexcept { error = std::current_exception(); }

        std::coroutine_handle<> parent = std::noop_coroutine();
        std::optional<int> result;
        std::exception_ptr error;
    };
    using Handle = std::coroutine_handle<promise_type>;

    Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (frame_) frame_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
        frame_.promise().parent = parent;
        return frame_;
    }
    int await_resume() const { return result(); }

    void start() const { frame_.resume(); }
    int result() const {
        if (frame_.promise().error) std::rethrow_exception(frame_.promise().error);
        return frame_.promise().result.value();
    }

  private:
    explicit Task(Handle frame) noexcept : frame_(frame) {}

    Handle frame_;
};

/// Runs what has slept long enough, in the order in which it began to.
class Loop {
  public:
    void resume_at(Clock::time_point when, std::coroutine_handle<> sleeper) {
        sleepers_.emplace_back(when, sleeper);
    }
    void run() {
        while (!sleepers_.empty()) {
            auto [when, sleeper] = sleepers_.front();
            sleepers_.pop_front();
            std::this_thread::sleep_until(when);
            sleeper.resume();
        }
    }

  private:
    std::deque<std::pair<Clock::time_point, std::coroutine_handle<>>> sleepers_;
};

Loop loop;

struct Sleep {
    Clock::duration delay;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> sleeper) const {
        loop.resume_at(Clock::now() + delay, sleeper);
    }
    void await_resume() const noexcept {}
};

Task answer() {
    co_await Sleep{std::chrono::milliseconds(10)};
    co_return 42;
}

Task hello() {
    std::puts("hello");
    int result = co_await answer();
    std::puts("world");
    co_return result;
}

}  // namespace

int main() {
    Task task = hello();
    task.start();
    loop.run();
    std::printf("the answer is %d\n", task.result());
}
