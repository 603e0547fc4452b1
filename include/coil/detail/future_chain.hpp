#pragma once

// A concurrent future and a loop's future that end together.
//
// The loop's future has no atomic counts: only the loop's thread may touch it, even to let it go. So a link between the two belongs
// to the loop, as one of its resources, and the other threads only send it there.

#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

#include "coil/concurrent.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/loop_core.hpp"
#include "coil/events.hpp"
#include "coil/futures.hpp"
#include "coil/tasks.hpp"

namespace coil::detail {

///     attached    the loop keeps it            send(): sent; detach(): over; the loop closes: dropped
///     sent        the inbox keeps it, too      arrives, if it is still attached
class LoopLink : public Runnable, private LoopResource, public std::enable_shared_from_this<LoopLink> {
  public:
    explicit LoopLink(EventLoop& loop) noexcept;
    ~LoopLink() override = default;

    /// From any thread, at most once: arrived() will be called in the loop's thread.
    void send() noexcept;

  protected:
    void attach();
    /// Afterwards neither arrived() nor dropped() is called. It may be gone with this.
    void detach() noexcept;
    virtual void arrived() = 0;
    /// The loop is closed: let go what belongs to its thread.
    virtual void dropped() noexcept = 0;

    EventLoop& loop_;  // while attached

  private:
    void loop_closed() noexcept final;
    static void arrive(Runnable& self, How how);

    std::shared_ptr<Inbox> inbox_;
    std::shared_ptr<LoopLink> attached_;
    std::shared_ptr<LoopLink> sent_;
};

enum class Give { COPY, MOVE };  // the value, to the loop's future

/// Gives the end of `source`, which has finished with a value, to a pending future.
using GiveValue = void (*)(ConcurrentState& source, FutureBase& target);
Ref<FutureBase> chain_to_loop(std::shared_ptr<ConcurrentState> source, Ref<FutureBase> target,
                              EventLoop& loop, GiveValue give);

template <class T>
void give_by_copy(ConcurrentState& source, FutureBase& target) {
    auto& future = static_cast<FutureState<T>&>(target);
    if constexpr (std::is_void_v<T>) {
        future.set_result();
    } else {
        future.set_result(static_cast<ConcurrentResult<T>&>(source).box().get());
    }
}
template <class T>
void give_by_move(ConcurrentState& source, FutureBase& target) {
    if constexpr (std::is_void_v<T> || std::is_reference_v<T>) {
        give_by_copy<T>(source, target);
    } else {
        static_cast<FutureState<T>&>(target).set_result(
            static_cast<ConcurrentResult<T>&>(source).box().take());
    }
}

/// A future of the loop's that ends as `source` does, one turn after that is known; cancelling it cancels `source`.
template <class T>
Future<T> chain_to_loop(std::shared_ptr<ConcurrentResult<T>> source, EventLoop& loop, Give give) {
    GiveValue function = &give_by_move<T>;
    if constexpr (COPYABLE<T> || !std::is_object_v<T>) {
        if (give == Give::COPY) function = &give_by_copy<T>;
    }
    return Future<T>(chain_to_loop(std::move(source), loop.create_future<T>().handle(), loop, function));
}

/// A task's end goes to `target`; cancelling that cancels the task. In the loop's thread.
using TakeValue = void (*)(FutureBase& source, ConcurrentState& target);
void chain_to_thread(Ref<FutureBase> source, std::shared_ptr<ConcurrentState> target, TakeValue take);

template <class T>
void take_value(FutureBase& source, ConcurrentState& target) {
    auto& result = static_cast<ConcurrentResult<T>&>(target);
    if constexpr (std::is_void_v<T>) {
        result.set_result();
    } else if constexpr (std::is_reference_v<T>) {
        result.set_result(*static_cast<std::remove_reference_t<T>*>(source.value()));
    } else {
        result.set_result(std::move(*static_cast<T*>(source.value())));
    }
}

/// A coroutine on its way to another thread's loop. If that closes first, the future is cancelled.
template <class T>
class Submission {
  public:
    Submission(Coro<T> coro, EventLoop& loop, std::shared_ptr<ConcurrentResult<T>> target) noexcept
        : coro_(std::move(coro)), loop_(loop), target_(std::move(target)) {}
    Submission(Submission&&) noexcept = default;
    ~Submission() {
        if (target_) target_->cancel();
    }
    void operator()() {
        auto target = std::move(target_);
        try {
            Task<T> task = loop_.create_task(std::move(coro_), {}, std::source_location());
            chain_to_thread(task.handle(), target, &take_value<T>);
        } catch (const KeyboardInterrupt&) {
            target->cancel();
            throw;
        } catch (...) {
            if (target->set_running_or_notify_cancel()) target->set_exception(std::current_exception());
            throw;
        }
    }

  private:
    Coro<T> coro_;
    EventLoop& loop_;
    std::shared_ptr<ConcurrentResult<T>> target_;
};

}  // namespace coil::detail
