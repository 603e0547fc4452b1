// The least that a coroutine runtime needs: an intrusive ready queue and recycled frames, no cancellation, no
// contexts, no threads. What it costs is the limit that coil is measured against; it is not meant to be used.
#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <utility>

namespace limit {

class FramePool {
  public:
    void* take(std::size_t size) {
        std::size_t size_class = size / GRAIN;
        if (size_class >= free_.size()) return std::malloc(size);
        Block* block = free_[size_class];
        if (!block) return std::malloc((size_class + 1) * GRAIN);
        free_[size_class] = block->next;
        return block;
    }
    void give(void* frame, std::size_t size) {
        std::size_t size_class = size / GRAIN;
        if (size_class >= free_.size()) return std::free(frame);
        free_[size_class] = new (frame) Block{free_[size_class]};
    }

  private:
    struct Block {
        Block* next;
    };
    static constexpr std::size_t GRAIN = 64;
    std::array<Block*, 16> free_{};
};

inline thread_local FramePool frames;

struct Recycled {
    static void* operator new(std::size_t size) { return frames.take(size); }
    static void operator delete(void* frame, std::size_t size) { frames.give(frame, size); }
};

struct Runnable {
    Runnable* next = nullptr;
    std::coroutine_handle<> coroutine;
};

class ReadyQueue {
  public:
    void push(Runnable* item) {
        item->next = nullptr;
        *end_ = item;
        end_ = &item->next;
    }
    bool empty() const { return !first_; }
    /// nullptr if it is empty.
    Runnable* pop() {
        Runnable* item = first_;
        if (item && !(first_ = item->next)) end_ = &first_;
        return item;
    }

    void run() {
        while (!empty()) run_turn();
    }
    /// Runs what is queued now; what that adds waits for the next turn.
    void run_turn() {
        Runnable* item = std::exchange(first_, nullptr);
        end_ = &first_;
        while (item) {
            Runnable* next = item->next;
            item->coroutine.resume();
            item = next;
        }
    }

  private:
    Runnable* first_ = nullptr;
    Runnable** end_ = &first_;
};

inline ReadyQueue ready;

struct Sleep0 : Runnable {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
        coroutine = waiter;
        ready.push(this);
    }
    void await_resume() const noexcept {}
};

/// A coroutine that runs to its first suspension at once and owns itself.
struct Detached {
    struct promise_type : Recycled {
        Detached get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};

/// A lazy child with an int for a result.
class [[nodiscard]] Child {
  public:
    struct promise_type : Recycled {
        int result = 0;
        std::exception_ptr error;
        std::coroutine_handle<> parent;

        struct Final {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
                return self.promise().parent;
            }
            void await_resume() const noexcept {}
        };
        Child get_return_object() noexcept { return Child(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        Final final_suspend() noexcept { return {}; }
        void return_value(int value) noexcept { result = value; }
        void unhandled_exception() noexcept { error = std::current_exception(); }
    };
    using Handle = std::coroutine_handle<promise_type>;

    explicit Child(Handle handle) noexcept : handle_(handle) {}
    Child(Child&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    ~Child() {
        if (handle_) handle_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    Handle await_suspend(std::coroutine_handle<> parent) noexcept {
        handle_.promise().parent = parent;
        return handle_;
    }
    int await_resume() {
        if (handle_.promise().error) std::rethrow_exception(std::move(handle_.promise().error));
        return handle_.promise().result;
    }

  private:
    Handle handle_;
};

}  // namespace limit
