#pragma once

// What calls of StreamReader and StreamWriter wait with, where the caller stands.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/operation.hpp"
#include "coil/detail/task_base.hpp"

namespace coil::detail {

class StreamReaderState;
struct StreamWriterState;

/// A wait for a stream's data. When its turn comes it looks whether the wait is over, and receives; the task goes on only if it
/// is. For a task that is to be cancelled it takes nothing.
class StreamWait : public LeafWaiter, private Runnable {
  public:
    std::string describe() const final;
    /// Queues the look, where the task's next step would be.
    void wake() noexcept { wake_by(*this); }

  protected:
    /// `function`: "StreamReader.read", for messages.
    StreamWait(std::shared_ptr<StreamReaderState> state, const char* function) noexcept;
    ~StreamWait();

    /// Whether the wait is over. What it throws, await_resume does.
    virtual bool finish() = 0;
    /// Whether it may receive by itself; otherwise it is woken when the reader has been fed.
    virtual bool directly() const noexcept { return false; }

    /// False: it has to wait.
    bool over() noexcept;
    template <class Promise>
    void suspend(std::coroutine_handle<Promise> at) noexcept {
        LeafWaiter::suspend(at);
        enlist();
    }
    /// Throws if it was cancelled or has failed.
    void check();
    StreamReaderState& state() const noexcept { return *state_; }
    std::shared_ptr<StreamReaderState> take_state() noexcept { return std::move(state_); }

    std::shared_ptr<StreamReaderState> state_;
    const char* function_;

  private:
    static void run(Runnable& self, How how);
    void enlist() noexcept;

    std::exception_ptr error_;
};

/// StreamReader::read() and readexactly().
class [[nodiscard("co_await it")]] StreamRead final : public Operation<std::string>, public StreamWait {
  public:
    enum class Until : std::uint8_t { SOMETHING, SIZE, END };

    StreamRead(std::shared_ptr<StreamReaderState> state, Until until, std::size_t size) noexcept
        : StreamWait(std::move(state),
                     until == Until::SIZE ? "StreamReader.readexactly" : "StreamReader.read"),
          size_(size),
          until_(until) {}
    StreamRead(StreamRead&& other) noexcept : StreamRead(other.take_state(), other.until_, other.size_) {}

    bool await_ready() noexcept { return over(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) noexcept {
        suspend(at);
    }
    std::string await_resume() {
        check();
        return std::move(result_);
    }

  private:
    bool finish() override;
    bool directly() const noexcept override { return until_ == Until::SOMETHING; }

    std::string result_;
    std::size_t size_;
    Until until_;
};

/// StreamReader::read_into().
class [[nodiscard("co_await it")]] StreamReadInto final : public Operation<std::size_t>, public StreamWait {
  public:
    StreamReadInto(std::shared_ptr<StreamReaderState> state, std::span<std::byte> buffer) noexcept
        : StreamWait(std::move(state), "StreamReader.read_into"), buffer_(buffer) {}
    StreamReadInto(StreamReadInto&& other) noexcept : StreamReadInto(other.take_state(), other.buffer_) {}

    bool await_ready() noexcept { return over(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) noexcept {
        suspend(at);
    }
    std::size_t await_resume() {
        check();
        return received_;
    }

  private:
    bool finish() override;
    bool directly() const noexcept override { return true; }

    std::span<std::byte> buffer_;
    std::size_t received_ = 0;
};

/// StreamWriter::drain(): a coroutine only where it has to wait.
class [[nodiscard("co_await it")]] Drain final : public Operation<void> {
  public:
    explicit Drain(std::shared_ptr<StreamWriterState> state) noexcept : state_(std::move(state)) {}
    Drain(Drain&& other) noexcept : state_(std::move(other.state_)) {}

    bool await_ready() const { return nothing_to_wait_for(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> parent) {
        waiting_.emplace(wait(std::move(state_)));
        return waiting_->await_suspend(parent);
    }
    void await_resume() {
        if (waiting_) waiting_->await_resume();
    }

  private:
    bool nothing_to_wait_for() const;
    static Coro<> wait(std::shared_ptr<StreamWriterState> state);

    std::shared_ptr<StreamWriterState> state_;
    std::optional<CoroAwaiter<void>> waiting_;
};

}  // namespace coil::detail
