#include "coil/combinators.hpp"

#include <unordered_map>
#include <unordered_set>

#include "base/type_name.hpp"
#include "coil/exceptions.hpp"
#include "coil/queues.hpp"
#include "core/inspection.hpp"

namespace coil::detail {

void check_same_loop(FutureBase& future, EventLoop& loop) {
    if (&future.get_loop() != &loop) throw ValueError("The future belongs to a different loop");
}

// ---- gather

void GatherChild::run(Runnable& self, How how) {
    auto& child = static_cast<GatherChild&>(self);
    if (how == How::RUN) child.gathering->child_done(child);
}

void Gathering::leave_children() noexcept {
    if (linked()) unlink();
    for (std::size_t i = 0; i < count_; ++i) {
        GatherChild& child = children_[i];
        if (!child.duplicate && !child.future->done()) child.future->remove_waiter(child);
    }
}

void Gathering::begin(FutureBase& outer, GatherChild* children, std::size_t count, bool may_repeat) {
    for (std::size_t i = 0; i < count; ++i) check_same_loop(*children[i].future, outer.get_loop());
    outer_ = &outer;
    children_ = children;
    count_ = count;
    if (count == 0) return collect();
    std::unordered_map<FutureBase*, GatherChild*> seen;
    for (std::size_t i = 0; i < count; ++i) {
        GatherChild& child = children[i];
        child.gathering = this;
        if (may_repeat) {
            auto [first, is_new] = seen.emplace(child.future.get(), &child);
            child.duplicate = !is_new;
            if (child.duplicate) child.movable = first->second->movable = false;
        }
        if (!child.duplicate) ++unfinished_;
    }
    outer.retain();  // until every child is done, or the loop is closed
    outer.get_loop().core().resources.push_back(*this);
    for (std::size_t i = 0; i < count; ++i) {
        if (!children[i].duplicate && !children[i].future->done())
            children[i].future->add_waiter(children[i]);
    }
    std::size_t done_before = 0;
    for (std::size_t i = 0; i < count; ++i)
        done_before += !children[i].duplicate && children[i].future->done();
    for (std::size_t i = 0; i < count && done_before > 0; ++i) {
        if (children[i].duplicate || !children[i].future->done()) continue;
        --done_before;
        child_done(children[i]);
    }
}

void Gathering::child_done(GatherChild& child) {
    Ref<FutureBase> keep(outer_);
    bool last = --unfinished_ == 0;
    if (last && linked()) {
        unlink();
        outer_->release();
    }
    if (outer_->done()) {
        child.future->mark_retrieved();
        return;
    }
    if (!return_errors_) {
        if (std::exception_ptr error = child.future->outcome_error()) {
            outer_->set_exception(std::move(error));
            return;
        }
    }
    if (!last) return;
    if (cancel_requested_) {
        std::exception_ptr error = child.future->cancelled() ? child.future->outcome_error() : nullptr;
        outer_->set_exception(error ? error : std::make_exception_ptr(CancelledError()));
        return;
    }
    try {
        collect();
    } catch (...) {  // a result's copy constructor
        if (!outer_->done()) outer_->set_exception(std::current_exception());
    }
}

void Gathering::loop_closed() noexcept { outer_->release(); }

bool Gathering::cancel_children(std::string_view message) {
    bool cancelled = false;
    for (std::size_t i = 0; i < count_; ++i) {
        if (children_[i].future->cancel(message)) cancelled = true;
    }
    if (cancelled) cancel_requested_ = true;
    return cancelled;
}

void Gathering::awaited_children(std::vector<FutureBase*>& futures) const {
    for (std::size_t i = 0; i < count_; ++i) {
        if (!children_[i].duplicate && !children_[i].future->done())
            futures.push_back(children_[i].future.get());
    }
}

// ---- wait

namespace {

class WaitForSeveral;
struct WaitedFuture;
using WaitedFutures = std::vector<WaitedFuture>;

/// One future that wait() looks at. When the wait is over, others may have ended since: their nodes are in the ready queue, and
/// keep all of them until they have left it.
struct WaitedFuture final : DoneNode {
    WaitedFuture() noexcept : DoneNode(&WaitedFuture::run) {}
    static void run(Runnable& self, How how);
    void leave(const std::shared_ptr<WaitedFutures>& all) {
        wait = nullptr;
        if (!listed) return;
        if (!future->done()) {
            future->remove_waiter(*this);
        } else if (!ran) {
            keeps_all = all;
        }
    }
    WaitForSeveral* wait = nullptr;
    Ref<FutureBase> future;
    std::shared_ptr<WaitedFutures> keeps_all;
    bool listed = false;  // was put into the future's list
    bool ran = false;
};

/// The one wait of wait() and of cancel_unless_done(): until enough futures are done or a timer fires.
class WaitForSeveral final : public LeafWaiter, public OperationTag {
  public:
    WaitForSeveral(const std::vector<Ref<FutureBase>>& futures, ReturnWhen when,
                   std::optional<Duration> limit)
        : nodes_(std::make_shared<WaitedFutures>(futures.size())),
          pending_(futures.size()),
          when_(when),
          limit_(limit) {
        for (std::size_t i = 0; i < futures.size(); ++i) (*nodes_)[i].future = futures[i];
    }
    ~WaitForSeveral() {
        timer_.cancel();
        for (WaitedFuture& node : *nodes_) node.leave(nodes_);
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        EventLoop& loop = *thread_state.loop;
        if (limit_) timer_ = loop.call_later(*limit_, [this] { release(); });
        for (WaitedFuture& node : *nodes_) {
            node.wait = this;
            if (node.future->done()) {
                // Counts in the next turn, as a done callback does.
                loop.call_soon([nodes = nodes_, &node] { WaitedFuture::run(node, Runnable::How::RUN); });
            } else {
                node.listed = true;
                node.future->add_waiter(node);
            }
        }
    }
    void await_resume() {
        timer_.cancel();
        throw_if_cancelled();
    }
    std::string describe() const override {
        return "wait for " + std::to_string(pending_) + " of " + std::to_string(nodes_->size()) + " futures";
    }
    void awaited(std::vector<FutureBase*>& futures) const override {
        for (const WaitedFuture& node : *nodes_) {
            if (!node.future->done()) futures.push_back(node.future.get());
        }
    }
    void one_done(FutureBase& future) {
        --pending_;
        bool enough = pending_ == 0 || when_ == ReturnWhen::FIRST_COMPLETED;
        if (!enough && when_ == ReturnWhen::FIRST_EXCEPTION && !future.cancelled())
            enough = future.exception() != nullptr;
        if (enough) release();
    }

  private:
    template <class>
    friend struct detail::LayoutOf;

    void release() {
        timer_.cancel();
        if (pending()) wake();
    }

    std::shared_ptr<WaitedFutures> nodes_;  // shared with what may come after the wait
    std::size_t pending_;
    ReturnWhen when_;
    std::optional<Duration> limit_;
    TimerHandle timer_;
};

void WaitedFuture::run(Runnable& self, How how) {
    auto& node = static_cast<WaitedFuture&>(self);
    auto keep = std::move(node.keeps_all);
    node.ran = true;
    if (how == How::RUN && node.wait) node.wait->one_done(*node.future);
}

}  // namespace

template <>
struct LayoutOf<WaitForSeveral> {
    static constexpr InspectionPath left = {offsetof(WaitForSeveral, pending_)};
    static constexpr InspectionPath task = {offsetof(WaitedFuture, wait), LayoutOf<LeafWaiter>::task()};
};
template <>
struct LayoutOf<Gathering> {
    static constexpr InspectionPath outer = {offsetof(GatherChild, gathering), offsetof(Gathering, outer_)};
};
COIL_INSPECTION_ROWS(waiting_for_several) = {
    {"coil::detail::(anonymous namespace)::WaitForSeveral", "wait", InspectionKind::NAME, {}},
    {"coil::detail::(anonymous namespace)::WaitForSeveral", "futures left", InspectionKind::COUNT,
     LayoutOf<WaitForSeveral>::left},
    {nullptr, "", InspectionKind::TASK, LayoutOf<WaitForSeveral>::task, &WaitedFuture::run},
    {nullptr, "", InspectionKind::FUTURE, LayoutOf<Gathering>::outer, &GatherChild::run},
};

Coro<> wait_for_futures(std::vector<Ref<FutureBase>> futures, WaitOptions options) {
    if (futures.empty()) throw ValueError("Set of Tasks/Futures is empty.");
    co_await WaitForSeveral(futures, options.return_when, options.timeout);
}

Coro<> cancel_unless_done(Ref<FutureBase> future) {
    if (!future) throw_empty_handle();
    if (future->done()) co_return;
    future->cancel({});
    std::vector<Ref<FutureBase>> one{future};
    co_await WaitForSeveral(one, ReturnWhen::ALL_COMPLETED, std::nullopt);
    if (future->cancelled()) throw TimeoutError(future->outcome_error());
}

void drop_repeated(std::vector<Ref<FutureBase>>& futures) {
    std::unordered_set<FutureBase*> seen;
    std::erase_if(futures, [&](const Ref<FutureBase>& future) { return !seen.insert(future.get()).second; });
}

// ---- as_completed

class Completions {
  public:
    /// Null: the time was over first.
    Queue<Ref<FutureBase>> done;
    std::size_t pending = 0;
    TimerHandle limit;

    void add(FutureBase& future) {
        if (pending == 0) return;  // too late
        done.put_nowait(Ref<FutureBase>(&future));
        if (--pending == 0) limit.cancel();
    }
    void time_over() {
        for (; pending > 0; --pending) done.put_nowait({});
    }
};

namespace {

class AddCompletion final : public DoneCallable {
  public:
    explicit AddCompletion(std::shared_ptr<Completions> completions) : completions_(std::move(completions)) {}
    void call(FutureBase& future) override { completions_->add(future); }
    const std::type_info& type() const noexcept override { return typeid(AddCompletion); }

  private:
    std::shared_ptr<Completions> completions_;
};

}  // namespace

std::shared_ptr<Completions> watch_completions(std::vector<Ref<FutureBase>>& futures,
                                               AsCompletedOptions options, EventLoop& loop) {
    drop_repeated(futures);
    for (const Ref<FutureBase>& future : futures) {
        if (!future) throw_empty_handle();
        check_same_loop(*future, loop);
    }
    auto completions = std::make_shared<Completions>();
    completions->pending = futures.size();
    Ref<DoneCallable> add(new AddCompletion(completions));
    for (const Ref<FutureBase>& future : futures) future->add_done_callback(add, {});
    if (options.timeout && !futures.empty()) {
        // Not kept by the timer, which they keep: a loop that is closed drops it, but does not empty it.
        completions->limit = loop.call_later(*options.timeout, [open = std::weak_ptr(completions)] {
            if (auto left = open.lock()) left->time_over();
        });
    }
    return completions;
}

Coro<Ref<FutureBase>> next_completion(std::shared_ptr<Completions> completions) {
    Ref<FutureBase> future = co_await completions->done.get();
    if (!future) throw TimeoutError();
    co_return future;
}

// ---- shield

namespace {

/// Watches an inner future that nobody awaits any more.
class ReportError final : public DoneCallable {
  public:
    void call(FutureBase& inner) override {
        if (inner.cancelled()) return;
        std::exception_ptr error = inner.exception();
        if (!error) return;
        ExceptionContext context{
            .message = short_type_name(*exception_type(error)) + " exception in shielded future",
            .exception = error};
        context.future_state = &inner;
        inner.get_loop().call_exception_handler(context);
    }
    const std::type_info& type() const noexcept override { return typeid(ReportError); }
};

/// The outer future's callback. Outer and inner hold one another while both are pending: the loop's end cuts that.
class LetGo final : public DoneCallable, private LoopResource {
  public:
    LetGo(FutureBase& inner, DoneCallback follow) : inner_(&inner), follow_(std::move(follow)) {
        inner.get_loop().core().resources.push_back(*this);
    }
    ~LetGo() override {
        if (linked()) unlink();
    }
    void call(FutureBase&) override {
        if (!inner_ || inner_->done()) return;
        inner_->remove_done_callback(*follow_.callable());
        inner_->add_done_callback(Ref<DoneCallable>(new ReportError), {});
    }
    const std::type_info& type() const noexcept override { return typeid(LetGo); }
    FutureBase* awaited() const noexcept override { return inner_.get(); }

  private:
    template <class>
    friend struct detail::LayoutOf;

    void loop_closed() noexcept override {
        auto inner = std::move(inner_);
        auto follow = std::move(follow_);
    }
    Ref<FutureBase> inner_;
    DoneCallback follow_;
};

}  // namespace

template <>
struct LayoutOf<LetGo> {
    static constexpr InspectionPath inner = {offsetof(LetGo, inner_)};
};
COIL_INSPECTION_ROWS(shield) = {
    {"coil::detail::(anonymous namespace)::LetGo", "", InspectionKind::FUTURE, LayoutOf<LetGo>::inner},
};

void let_go_when_done(FutureBase& outer, FutureBase& inner, DoneCallback follow) {
    outer.add_done_callback(Ref<DoneCallable>(new LetGo(inner, std::move(follow))), {});
}

}  // namespace coil::detail
