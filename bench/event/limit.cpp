#include "../common/limit.hpp"

#include "../common/bench.hpp"

/// For one waiter.
class Event {
    struct Wait : limit::Runnable {
        explicit Wait(Event& event) noexcept : event(event) {}
        bool await_ready() const noexcept { return event.set_; }
        void await_suspend(std::coroutine_handle<> waiter) noexcept {
            coroutine = waiter;
            event.waiting_ = this;
        }
        void await_resume() const noexcept {}
        Event& event;
    };

  public:
    Wait wait() noexcept { return Wait(*this); }
    void clear() noexcept { set_ = false; }
    void set() noexcept {
        set_ = true;
        if (waiting_) limit::ready.push(std::exchange(waiting_, nullptr));
    }

  private:
    limit::Runnable* waiting_ = nullptr;
    bool set_ = false;
};

limit::Detached answer(Event& mine, Event& other, long count) {
    for (long i = 0; i < count; i++) {
        co_await mine.wait();
        mine.clear();
        other.set();
    }
}

int main() {
    constexpr long WAKES = 20'000'000;
    Event ping;
    Event pong;
    ping.set();
    double start = now_ns();
    answer(ping, pong, WAKES / 2);
    answer(pong, ping, WAKES / 2);
    limit::ready.run();
    report("event", "wake", (now_ns() - start) / WAKES);
}
