#include "../common/limit.hpp"

#include "../common/bench.hpp"

/// Room for one item, for one producer and one consumer: they never wait at the same time.
class Queue {
    struct Wait : limit::Runnable {
        explicit Wait(Queue& queue) noexcept : queue(queue) {}
        void await_suspend(std::coroutine_handle<> waiter) noexcept {
            coroutine = waiter;
            queue.waiting_ = this;
        }
        Queue& queue;
    };
    struct Put : Wait {
        Put(Queue& queue, int item) noexcept : Wait(queue), item(item) {}
        bool await_ready() const noexcept { return !queue.full_; }
        void await_resume() noexcept {
            queue.item_ = item;
            queue.change(true);
        }
        int item;
    };
    struct Get : Wait {
        using Wait::Wait;
        bool await_ready() const noexcept { return queue.full_; }
        int await_resume() noexcept {
            queue.change(false);
            return queue.item_;
        }
    };

  public:
    Put put(int item) noexcept { return Put(*this, item); }
    Get get() noexcept { return Get(*this); }

  private:
    void change(bool full) noexcept {
        full_ = full;
        if (waiting_) limit::ready.push(std::exchange(waiting_, nullptr));
    }

    limit::Runnable* waiting_ = nullptr;
    int item_ = 0;
    bool full_ = false;
};

limit::Detached produce(Queue& queue, int count) {
    for (int i = 0; i < count; i++) co_await queue.put(i);
}

limit::Detached consume(Queue& queue, int count) {
    long sum = 0;
    for (int i = 0; i < count; i++) sum += co_await queue.get();
    bench::keep(sum);
}

int main() {
    constexpr int COUNT = 20'000'000;
    Queue queue;
    double start = now_ns();
    produce(queue, COUNT);
    consume(queue, COUNT);
    limit::ready.run();
    report("queue_handover", "item", (now_ns() - start) / COUNT);
}
