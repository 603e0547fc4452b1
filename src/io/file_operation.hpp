#pragma once

// Operations on files: carried out by the kernel in the background where the poller can have that, else by a thread of the
// loop's pool. The same for whoever waits:
//
// A task that is cancelled goes on when the operation is over, and not before, so that what it does next (close the file, write
// again) does not meet an operation that still runs. One that had not begun is over at once. Opening is the exception: it may
// take for ever (a FIFO without a writer) and nothing can follow it, so a thread is left to it.

#include <memory>
#include <string>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/detail/task_base.hpp"
#include "platform/poller.hpp"
#include "sync/worker_pool.hpp"

namespace coil::detail {

/// An open descriptor. Shared with the operations on it, which may outlive the loop in a thread.
struct Descriptor {
    explicit Descriptor(int number) noexcept : fd(number) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { close(); }
    void close() noexcept;
    int fd;  // -1: closed
};

class FileWait;

/// May be used again once it is over, for the next piece.
class FileOperation final : public KernelOp, public Job {
  public:
    /// `name` describes it: "File.read 'x'".
    FileOperation(Kind what, std::string name, std::shared_ptr<Descriptor> of = nullptr);
    ~FileOperation() override;

    /// Whether the caller's memory may be given to it: then the caller goes on only when it is over. A thread may outlive the
    /// loop, and gets `buffer`.
    bool takes_callers_memory() const noexcept { return by_kernel_; }
    /// The result; OSError, with `subject` behind the system's text, if there is none.
    std::int64_t take_result(const std::string& subject = {});

    std::string buffer;
    std::string path_name;

  private:
    friend FileWait;
    template <class>
    friend struct LayoutOf;
    static void start(const std::shared_ptr<FileOperation>& operation);
    /// True: it is over for who waits.
    bool take_back() noexcept;
    void call() noexcept override { perform(*this); }
    void arrived() override;
    static void finished(Watch& watch);

    LoopCore& loop_;
    std::string name_;
    std::shared_ptr<Descriptor> descriptor_;
    FileWait* waiter_ = nullptr;
    bool by_kernel_;
};

/// Starts the operation; awaited at once, gives control back when it is over. Cancelled, throws CancelledError then; `result` is
/// there in any case.
class FileWait final : public Waiter, public OperationTag {
  public:
    explicit FileWait(std::shared_ptr<FileOperation> operation) : operation_(std::move(operation)) {
        FileOperation::start(operation_);
        operation_->waiter_ = this;
    }
    FileWait(const FileWait&) = delete;
    FileWait& operator=(const FileWait&) = delete;
    ~FileWait();

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        task_ = thread_state.task;
        task_->suspend(at, at.promise(), this);
    }
    void await_resume();
    bool cancel_wait(std::string_view message) override;
    std::string describe() const override { return operation_->name_; }

  private:
    friend FileOperation;
    template <class>
    friend struct LayoutOf;
    void over() noexcept;

    std::shared_ptr<FileOperation> operation_;
    TaskBase* task_ = nullptr;
    bool over_ = false;
    bool cancelled_ = false;
};

}  // namespace coil::detail
