#include "coil/taskgroups.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/inspection.hpp"
#include "coil/exceptions.hpp"
#include "core/task_parent.hpp"

namespace coil::detail {

/// A child's place in the group and in the child's list of who waits for it.
struct TaskGroupState::Child final : DoneNode, ListNode, Pooled {
    Child(TaskGroupState& state, FutureBase& task) : DoneNode(&Child::run), group(&state), future(&task) {}
    static void run(Runnable& self, How how) {
        auto& child = static_cast<Child&>(self);
        if (how == How::RUN) child.group->child_done(child);
    }
    TaskGroupState* group;
    Ref<FutureBase> future;
};

/// The exit's wait for the last child.
class TaskGroupState::AllDone final : public LeafWaiter, public OperationTag {
  public:
    explicit AllDone(TaskGroupState& group) noexcept : group_(group) {}
    ~AllDone() { group_.waiting_ = nullptr; }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        group_.waiting_ = this;
        LeafWaiter::suspend(at);
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const override {
        std::size_t count = 0;
        for (Child* child = group_.children_.front(); child; child = group_.children_.after(*child)) ++count;
        return "TaskGroup with " + std::to_string(count) + " unfinished children";
    }

  private:
    TaskGroupState& group_;
};

template <>
struct LayoutOf<TaskGroupState> {
    using Child = TaskGroupState::Child;
    static constexpr InspectionPath parent = {offsetof(Child, group), offsetof(TaskGroupState, parent_)};
    static constexpr auto run = &Child::run;

    static TaskBase* parent_by_node(const DoneNode& node) noexcept {
        return node.function_ == run ? static_cast<const Child&>(node).group->parent_.get() : nullptr;
    }
};
[[maybe_unused]] const bool hooked = [] {
    parent_by_node = &LayoutOf<TaskGroupState>::parent_by_node;
    return true;
}();
COIL_INSPECTION_ROWS(task_group) = {
    {"coil::detail::TaskGroupState::AllDone", "TaskGroup", InspectionKind::NAME, {}},
    {nullptr, "", InspectionKind::TASK, LayoutOf<TaskGroupState>::parent, LayoutOf<TaskGroupState>::run},
};

TaskGroupState::~TaskGroupState() {
    // Only a group whose block never ended has children here: its task was destroyed with the loop.
    while (Child* child = children_.front()) {
        child->unlink();
        if (!child->future->done()) child->future->remove_waiter(*child);
        delete child;
    }
}

std::string TaskGroupState::describe() const {
    std::size_t count = 0;
    for (Child* child = children_.front(); child; child = children_.after(*child)) ++count;
    const char* state = !loop_ ? ", not entered" : aborting_ ? ", ending its tasks" : "";
    return fmt::format("<TaskGroup {} unfinished tasks{}>", count, state);
}

void TaskGroupState::enter() {
    if (loop_) throw RuntimeError("TaskGroup has already been entered");
    if (!thread_state.task)
        throw RuntimeError("TaskGroup cannot determine the parent task: use it inside a task");
    loop_ = thread_state.loop;
    parent_ = Ref<TaskBase>(thread_state.task);
    if (cancel_on_entry_) cancel();
}

EventLoop& TaskGroupState::check_accepting() const {
    if (!loop_) throw RuntimeError("TaskGroup has not been entered");
    if (exiting_ && children_.empty()) throw RuntimeError("TaskGroup is finished");
    if (aborting_) throw RuntimeError("TaskGroup is shutting down");
    return *loop_;
}

void TaskGroupState::add(FutureBase& task) {
    auto child = std::make_unique<Child>(*this, task);
    children_.push_back(*child);
    if (task.done()) {
        // It ended inside create_task; its error must not cancel the body before that has gone on.
        loop_->core().ready.push(*child.release());
    } else {
        task.add_waiter(*child.release());
    }
}

void TaskGroupState::child_done(Child& ended) {
    std::unique_ptr<Child> child(&ended);
    child->unlink();
    FutureBase& task = *child->future;
    if (children_.empty() && waiting_ && waiting_->pending()) waiting_->wake();
    if (task.cancelled()) return;
    std::exception_ptr error = task.outcome_error();
    if (!error) return;
    errors_.push_back(error);
    if (is_interrupt(error) && !interrupt_) interrupt_ = error;
    if (parent_->done()) {
        ExceptionContext context{.message = "Task " + task.describe() +
                                            " has errored out but its parent task " + parent_->describe() +
                                            " is already completed",
                                 .exception = error};
        context.future_state = &task;
        loop_->call_exception_handler(context);
        return;
    }
    if (!aborting_ && !parent_cancelled_) {
        abort();
        parent_cancelled_ = true;
        parent_->cancel({});
    }
}

void TaskGroupState::abort() {
    aborting_ = true;
    for (Child* child = children_.front(); child; child = children_.after(*child)) {
        if (!child->future->done()) child->future->cancel({});
    }
}

void TaskGroupState::cancel() {
    if (!loop_) {
        cancel_on_entry_ = true;
        return;
    }
    if (exiting_ && children_.empty()) return;
    if (!aborting_) abort();
    if (!exiting_ && !parent_cancelled_) {
        parent_cancelled_ = true;
        parent_->cancel({});
    }
}

Coro<bool> TaskGroupState::exit(std::exception_ptr error) {
    exiting_ = true;
    bool body_cancelled = is_cancelled_error(error);
    if (is_interrupt(error) && !interrupt_) interrupt_ = error;
    std::exception_ptr cancellation = body_cancelled ? error : nullptr;
    if (error && !aborting_) abort();

    while (!children_.empty()) {
        auto outcome = co_await try_await(AllDone(*this));
        if (!outcome.has_value() && !aborting_) {
            cancellation = outcome.exception();
            abort();
        }
    }

    if (interrupt_) std::rethrow_exception(interrupt_);
    // The group's own request to the parent is taken back here; what is left came from outside.
    if (parent_cancelled_ && parent_->uncancel() == 0) cancellation = nullptr;
    if (cancellation && errors_.empty()) {
        if (cancellation == error) co_return false;
        std::rethrow_exception(cancellation);
    }
    if (error && !body_cancelled) errors_.push_back(error);
    if (!errors_.empty()) {
        if (parent_->cancelling()) {
            // A cancel from outside met the errors, which come out first: deliver it again at the next wait.
            parent_->uncancel();
            parent_->cancel({});
        }
        throw ExceptionGroup("unhandled errors in a TaskGroup", std::move(errors_));
    }
    co_return true;
}

}  // namespace coil::detail
