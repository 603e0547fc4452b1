#include "coil/futures.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/inspection.hpp"
#include "base/type_name.hpp"
#include "coil/log.hpp"
#include "coil/tasks.hpp"
#include "coil/traceback.hpp"
#include "core/task_parent.hpp"
#include "core/trails.hpp"
#include "loop/report.hpp"
#include "loop/run_watch.hpp"

namespace coil {

namespace detail {

namespace {

/// One registration of a DoneCallable.
struct CallbackNode final : DoneNode, Pooled {
    CallbackNode(FutureBase& owner, Ref<DoneCallable> f, Ref<ContextState> given)
        : DoneNode(&CallbackNode::run), callable(std::move(f)), given_context(std::move(given)) {
        if (!given_context) context.map = current_context().map;
        keeps_ = &owner;
    }

    static void run(Runnable& self, How how) {
        std::unique_ptr<CallbackNode> node(&static_cast<CallbackNode&>(self));
        auto future = Ref<FutureBase>::adopt(node->keeps_);
        if (how == How::DISCARD) return;
        ContextScope scope(node->given_context ? *node->given_context->slot : node->context);
        try {
            node->callable->call(*future);
        } catch (const KeyboardInterrupt&) {
            throw;
        } catch (...) {
            if (EventLoop* loop = future->loop_if_alive())
                report_callback_error(*loop, type_name(node->callable->type()), std::current_exception(), {});
        }
        describe_run(
            [&] { return fmt::format("<{} of {}>", type_name(node->callable->type()), future->label()); });
    }

    Ref<DoneCallable> callable;
    ContextSlot context;
    Ref<ContextState> given_context;
};

}  // namespace

template <>
struct LayoutOf<CallbackNode> {
    static constexpr InspectionPath callable = {offsetof(CallbackNode, callable)};
};
template <>
struct LayoutOf<FutureWaiter> : FutureWaiter {
    static consteval InspectionPath future() { return {offsetof(LayoutOf, future_)}; }
    static consteval InspectionPath task() { return {offsetof(Node, task)}; }
    static consteval Runnable::Function run() { return &Node::run; }

  protected:
    ~LayoutOf() = default;
};
COIL_INSPECTION_ROWS(future) = {
    {"coil::detail::FutureAwaiter<", "", InspectionKind::FUTURE, LayoutOf<FutureWaiter>::future()},
    {nullptr, "", InspectionKind::TASK, LayoutOf<FutureWaiter>::task(), LayoutOf<FutureWaiter>::run()},
    {nullptr, "", InspectionKind::CALLABLE, LayoutOf<CallbackNode>::callable, &CallbackNode::run},
};

FutureBase::FutureBase(EventLoop& loop) noexcept : anchor_(loop.core().anchor) {}

FutureBase::~FutureBase() {
    forget_callbacks();
    if (trail_kept_) forget_trail(*this, error_);
    if (place_kept_) forget_creation_place(this);
}

void FutureBase::forget_callbacks() noexcept {
    for (DoneNode* node = first_; node;) {
        DoneNode* next = node->next();
        if (node->keeps_) {  // the others live in their waiters, which take them out themselves
            remove_waiter(*node);
            delete static_cast<CallbackNode*>(node);
        }
        node = next;
    }
}

EventLoop& FutureBase::get_loop() const {
    if (!anchor_->loop) throw RuntimeError("the event loop of this future no longer exists");
    return *anchor_->loop;
}

bool FutureBase::cancel(std::string_view message) {
    mark_retrieved();
    if (done()) return false;
    settle_cancelled(message.empty() ? nullptr : std::make_exception_ptr(CancelledError(message)));
    return true;
}

void FutureBase::begin_rethrow(const std::exception_ptr& error) const noexcept {
    if (trail_kept_) {
        resume_trail(*this, error);
    } else {
        begin_trail(error);
    }
}

void FutureBase::throw_cancelled() const {
    if (error_) {
        begin_rethrow(error_);
        std::rethrow_exception(error_);
    }
    throw CancelledError();
}

void FutureBase::throw_no_result() {
    if (!done()) throw InvalidStateError("Result is not ready: await the future, or look at done() first.");
    if (cancelled()) throw_cancelled();
    mark_retrieved();
    begin_rethrow(error_);
    std::rethrow_exception(error_);
}

std::exception_ptr FutureBase::exception() {
    if (!done()) throw InvalidStateError("Exception is not set: await the future, or look at done() first.");
    if (cancelled()) throw_cancelled();
    mark_retrieved();
    return error_;
}

std::exception_ptr FutureBase::outcome_error() noexcept {
    mark_retrieved();
    if (cancelled() && !error_) return std::make_exception_ptr(CancelledError());
    return error_;
}

void FutureBase::check_settable(const char* operation) const {
    if (is_task())
        throw RuntimeError(std::string("Task does not support ") + operation +
                           " operation: its coroutine gives the result");
    if (done())
        throw InvalidStateError(std::string(operation) + ": invalid state, the future is done already");
}

void FutureBase::set_exception(std::exception_ptr error) {
    check_settable("set_exception");
    if (!error) throw TypeError("set_exception: a null exception_ptr is no exception");
    settle_error(std::move(error));
}

void FutureBase::settle_error(std::exception_ptr error) {
    error_ = std::move(error);
    trail_kept_ = keep_trail(*this, error_);
    unseen_error_ = true;
    settle(State::FINISHED);
}

void FutureBase::settle(State state) {
    state_ = state;
    if (!first_) return;
    EventLoop* loop = anchor_->loop;
    if (!loop || loop->core().destroying)
        return forget_callbacks();  // perhaps in a destructor: no place to throw
    if (loop->is_closed()) throw RuntimeError("Event loop is closed");
    for (DoneNode* node = first_; node; node = node->next()) {
        if (node->keeps_) retain();
    }
    loop->core().ready.splice(*std::exchange(first_, nullptr), *std::exchange(last_, nullptr));
}

void FutureBase::add_waiter(DoneNode& node) noexcept {
    node.next_ = nullptr;
    node.prev_ = last_;
    if (last_) {
        last_->next_ = &node;
    } else {
        first_ = &node;
    }
    last_ = &node;
}

void FutureBase::remove_waiter(DoneNode& node) noexcept {
    DoneNode* next = node.next();
    if (node.prev_) {
        node.prev_->next_ = next;
    } else {
        first_ = next;
    }
    (next ? next->prev_ : last_) = node.prev_;
}

void FutureBase::add_done_callback(Ref<DoneCallable> callable, Ref<ContextState> context) {
    auto node = std::make_unique<CallbackNode>(*this, std::move(callable), std::move(context));
    if (!done()) {
        add_waiter(*node.release());
        return;
    }
    EventLoop& loop = get_loop();
    loop.check_closed();
    retain();
    loop.core().ready.push(*node.release());
}

std::size_t FutureBase::remove_done_callback(const DoneCallable& callable) {
    std::size_t removed = 0;
    for (DoneNode* node = first_; node;) {
        DoneNode* next = node->next();
        if (node->keeps_) {
            auto* candidate = static_cast<CallbackNode*>(node);
            const DoneCallable& other = *candidate->callable;
            bool same = &other == &callable || (other.function() && other.function() == callable.function());
            if (same) {
                remove_waiter(*node);
                delete candidate;
                ++removed;
            }
        }
        node = next;
    }
    return removed;
}

void FutureBase::awaited(std::vector<FutureBase*>& futures) const {
    for (DoneNode* node = first_; node; node = node->next()) {
        if (!node->keeps_) continue;  // somebody's wait for this one
        if (FutureBase* future = static_cast<CallbackNode*>(node)->callable->awaited())
            futures.push_back(future);
    }
}

namespace {

std::string describe_state(const FutureBase& future) {
    if (future.cancelled()) return "cancelled";
    if (future.done()) {
        const std::exception_ptr& error = future.stored_error();
        return error ? "failed with " + describe_exception(error) : "finished";
    }
    if (!future.is_task()) return "pending";
    const auto& task = static_cast<const TaskBase&>(future);
    if (thread_state.task == &task) return "running";
    const Waiter* waiter = task.waiting_on();
    return waiter ? "waiting for " + waiter->describe() : "ready";
}

/// What this future waits for, told by who waits: see future_add_to_awaited_by().
class AwaitedEdge final : public DoneCallable {
  public:
    explicit AwaitedEdge(FutureBase& future) : future_(&future) {}
    void call(FutureBase&) override {}
    const std::type_info& type() const noexcept override { return typeid(AwaitedEdge); }
    FutureBase* awaited() const noexcept override { return future_.get(); }

  private:
    template <class>
    friend struct detail::LayoutOf;

    Ref<FutureBase> future_;
};

}  // namespace

template <>
struct LayoutOf<AwaitedEdge> {
    static constexpr InspectionPath future = {offsetof(AwaitedEdge, future_)};
};
COIL_INSPECTION_ROWS(awaited_edge) = {
    {"coil::detail::(anonymous namespace)::AwaitedEdge", "", InspectionKind::FUTURE,
     LayoutOf<AwaitedEdge>::future},
};

std::string describe_future(const FutureBase* future, std::string_view kind) {
    return future ? future->describe() : fmt::format("<{} empty>", kind);
}

void add_awaited(FutureBase& future, FutureBase& waiter) {
    if (!waiter.done() && !waiter.told_awaited(future))
        waiter.add_done_callback(Ref<DoneCallable>(new AwaitedEdge(future)), {});
}

void discard_awaited(FutureBase& future, FutureBase& waiter) {
    if (DoneCallable* edge = waiter.told_awaited(future)) waiter.remove_done_callback(*edge);
}

constinit ParentByNode parent_by_node = nullptr;

TaskBase* FutureBase::parent() const noexcept {
    if (!parent_by_node) return nullptr;
    for (DoneNode* node = first_; node; node = node->next()) {
        if (TaskBase* parent = parent_by_node(*node)) return parent;
    }
    return nullptr;
}

DoneCallable* FutureBase::told_awaited(const FutureBase& future) const noexcept {
    for (DoneNode* node = first_; node; node = node->next()) {
        if (!node->keeps_) continue;
        DoneCallable& callable = *static_cast<CallbackNode*>(node)->callable;
        if (callable.type() == typeid(AwaitedEdge) && callable.awaited() == &future) return &callable;
    }
    return nullptr;
}

std::string FutureBase::describe() const {
    std::string where;
    if (is_task()) {  // known in every build
        const std::source_location& made = static_cast<const TaskBase&>(*this).created_at();
        if (made.line() != 0) where = fmt::format(", created at {}:{}", made.file_name(), made.line());
    } else if (place_kept_) {
        where = ", " + creation_place(this);
    }
    return fmt::format("<{} {}{}>", is_task() ? label() : "Future", describe_state(*this), where);
}

std::string FutureBase::label() const { return place_kept_ ? "Future " + creation_place(this) : "Future"; }

void FutureBase::keep_creation_place(const std::source_location& where) noexcept {
    place_kept_ = detail::keep_creation_place(this, where);
}

void FutureBase::destroy() noexcept {
    if (unseen_error_) {
        owners_ = 1;  // the handler may take the future for itself
        report_unseen_error();
        if (--owners_ > 0) return;
    }
    delete this;
}

void FutureBase::report_unseen_error() noexcept {
    unseen_error_ = false;
    try {
        ExceptionContext context{.message = std::string(kind()) + " exception was never retrieved",
                                 .exception = error_};
        context.future_state = this;
        context.details.emplace(is_task() ? "task" : "future", describe());
        add_creation(context, this);
        if (EventLoop* loop = anchor_->loop) {
            ContextSlot* slot = report_context();
            ContextScope scope(slot ? *slot : current_context());
            loop->call_exception_handler(context);
        } else {
            log(LogLevel::ERROR_, context.message + "\n" + format_exception(error_));
        }
    } catch (...) {  // an interrupt from a handler: this runs in destructors
        log(LogLevel::ERROR_, "an exception handler threw while a dropped future was reported");
    }
}

void throw_empty_handle() {
    throw RuntimeError("this Future or Task handle is empty: assign one before using it");
}

// ---- waiting

bool FutureWaiter::suspend(std::coroutine_handle<> at, PromiseBase& promise) {
    TaskBase& task = require_current_task("co_await");
    EventLoop* loop = future_->loop_if_alive();
    if (future_.get() == &task) {
        misuse_ = std::make_exception_ptr(RuntimeError("Task cannot await on itself: " + task.describe()));
    } else if (loop != thread_state.loop) {
        misuse_ =
            std::make_exception_ptr(RuntimeError("Task " + task.describe() + " got Future " +
                                                 future_->describe() + " attached to a different loop"));
    }
    if (misuse_) {
        task.suspend(at, promise, nullptr);
        task.yield();
        return true;
    }
    node_.task = &task;
    task.suspend(at, promise, this);
    future_->add_waiter(node_);
    return true;
}

void FutureWaiter::Node::run(Runnable& self, How how) {
    if (how == How::RUN) static_cast<Node&>(self).task->step();
}

void FutureWaiter::throw_instead() {
    if (misuse_) std::rethrow_exception(misuse_);
    // The future's own cancellation, with its message, goes before the task's.
    if (future_->cancelled() || is_cancelled_error(future_->stored_error())) return;
    future_->mark_retrieved();
    node_.task->throw_cancellation();
}

std::exception_ptr FutureWaiter::check_quietly() {
    if (misuse_ || (node_.task && node_.task->take_cancellation())) {
        try {
            throw_instead();
        } catch (...) {
            return std::current_exception();
        }
    }
    std::exception_ptr error = future_->outcome_error();
    if (error) future_->begin_rethrow(error);
    return error;
}

}  // namespace detail

std::optional<Future<>> ExceptionContext::future() const {
    if (!future_state) return std::nullopt;
    return Future<>(detail::Ref<detail::FutureBase>(future_state));
}

std::optional<Task<>> ExceptionContext::task() const {
    if (!future_state || !future_state->is_task()) return std::nullopt;
    return Task<>(detail::Ref<detail::FutureBase>(future_state));
}

}  // namespace coil
