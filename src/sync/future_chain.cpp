#include "coil/detail/future_chain.hpp"

#include "loop/inbox.hpp"

namespace coil::detail {

// ---- the link

LoopLink::LoopLink(EventLoop& loop) noexcept
    : Runnable(&LoopLink::arrive), loop_(loop), inbox_(loop.core().inbox) {}

void LoopLink::attach() {
    attached_ = shared_from_this();
    loop_.core().resources.push_back(*this);
}

void LoopLink::detach() noexcept {
    if (linked()) unlink();
    auto let_go = std::move(attached_);
}

void LoopLink::send() noexcept {
    sent_ = shared_from_this();
    if (thread_state.loop == &loop_) return loop_.core().ready.push(*this);  // in order with call_soon
    if (!inbox_->push(*this)) auto loop_is_closed = std::move(sent_);
}

void LoopLink::arrive(Runnable& self, How how) {
    auto link = std::move(static_cast<LoopLink&>(self).sent_);
    if (how == How::RUN && link->linked()) link->arrived();
}

void LoopLink::loop_closed() noexcept {
    auto let_go = std::move(attached_);
    dropped();
}

namespace {

/// What copying or moving the value throws: then that is the other side's result.
template <class Transfer>
std::exception_ptr error_of(Transfer&& transfer) {
    try {
        transfer();
        return nullptr;
    } catch (...) {
        return std::current_exception();
    }
}

// ---- to the loop

class ToLoop final : public LoopLink {
  public:
    ToLoop(EventLoop& loop, std::shared_ptr<ConcurrentState> source, Ref<FutureBase> target, GiveValue give)
        : LoopLink(loop), source_(std::move(source)), target_(std::move(target)), give_(give) {}

    void start() {
        attach();
        await_elsewhere();
        auto me = std::static_pointer_cast<ToLoop>(shared_from_this());
        target_->add_done_callback(Ref<DoneCallable>(new TargetEnded(me)), {});
        source_->add_done_callback([me](const std::shared_ptr<ConcurrentState>&) { me->send(); });
    }

  private:
    class TargetEnded final : public DoneCallable {
      public:
        explicit TargetEnded(std::shared_ptr<ToLoop> link) noexcept : link_(std::move(link)) {}
        void call(FutureBase& target) override {
            if (!target.cancelled()) return;
            link_->stop_awaiting_elsewhere();
            link_->source_->cancel();
        }
        const std::type_info& type() const noexcept override { return typeid(TargetEnded); }

      private:
        std::shared_ptr<ToLoop> link_;
    };

    void arrived() override {
        auto keep = shared_from_this();
        stop_awaiting_elsewhere();
        detach();
        Ref<FutureBase> target = std::move(target_);
        if (source_->cancelled()) {
            target->cancel({});
            return;
        }
        std::exception_ptr error = source_->take_error();
        if (!target->done()) {
            if (!error) error = error_of([&] { give_(*source_, *target); });
            if (error) target->set_exception(std::move(error));
        } else if (error) {
            loop_.call_exception_handler(
                {.message = "A call in an executor failed after its future was cancelled",
                 .exception = std::move(error)});
        }
    }
    void dropped() noexcept override {
        stop_awaiting_elsewhere();
        target_ = nullptr;
    }

    void await_elsewhere() noexcept {
        ++loop_.core().awaited_elsewhere;
        awaited_ = true;
    }
    void stop_awaiting_elsewhere() noexcept {
        if (std::exchange(awaited_, false)) --loop_.core().awaited_elsewhere;
    }

    std::shared_ptr<ConcurrentState> source_;
    Ref<FutureBase> target_;
    GiveValue give_;
    bool awaited_ = false;
};

// ---- to the thread

class ToThread final : public LoopLink {
  public:
    ToThread(EventLoop& loop, Ref<FutureBase> source, std::shared_ptr<ConcurrentState> target, TakeValue take)
        : LoopLink(loop), source_(std::move(source)), target_(std::move(target)), take_(take) {}

    void start() {
        attach();
        auto me = std::static_pointer_cast<ToThread>(shared_from_this());
        source_->add_done_callback(Ref<DoneCallable>(new SourceEnded(me)), {});
        target_->add_done_callback([me](const std::shared_ptr<ConcurrentState>& target) {
            if (target->cancelled()) me->send();
        });
    }

  private:
    class SourceEnded final : public DoneCallable {
      public:
        explicit SourceEnded(std::shared_ptr<ToThread> link) noexcept : link_(std::move(link)) {}
        void call(FutureBase&) override { link_->ended(); }
        const std::type_info& type() const noexcept override { return typeid(SourceEnded); }

      private:
        std::shared_ptr<ToThread> link_;
    };

    void ended() {
        auto keep = shared_from_this();
        detach();
        Ref<FutureBase> source = std::move(source_);
        if (source->cancelled()) {
            target_->cancel();
            return;
        }
        if (!target_->set_running_or_notify_cancel())
            return;  // what the task threw is then reported, as nobody's
        std::exception_ptr error = source->exception();
        if (!error) error = error_of([&] { take_(*source, *target_); });
        if (error) target_->set_exception(std::move(error));
    }
    void arrived() override { source_->cancel({}); }
    void dropped() noexcept override {
        source_ = nullptr;
        target_->cancel();
    }

    Ref<FutureBase> source_;
    std::shared_ptr<ConcurrentState> target_;
    TakeValue take_;
};

}  // namespace

Ref<FutureBase> chain_to_loop(std::shared_ptr<ConcurrentState> source, Ref<FutureBase> target,
                              EventLoop& loop, GiveValue give) {
    std::make_shared<ToLoop>(loop, std::move(source), target, give)->start();
    return target;
}

void chain_to_thread(Ref<FutureBase> source, std::shared_ptr<ConcurrentState> target, TakeValue take) {
    EventLoop& loop = source->get_loop();
    std::make_shared<ToThread>(loop, std::move(source), std::move(target), take)->start();
}

}  // namespace coil::detail
