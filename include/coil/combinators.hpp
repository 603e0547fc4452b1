#pragma once

// Waiting for several things: gather, wait, wait_for, as_completed, shield.

#include <concepts>
#include <coroutine>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "coil/contextlib.hpp"
#include "coil/coroutines.hpp"
#include "coil/detail/range.hpp"
#include "coil/events.hpp"
#include "coil/futures.hpp"
#include "coil/tasks.hpp"
#include "coil/timeouts.hpp"

namespace coil {

/// First argument of `gather`: errors and cancellations become Outcomes instead of being thrown.
struct return_exceptions_t {
    explicit return_exceptions_t() = default;
};
inline constexpr return_exceptions_t return_exceptions{};

namespace detail {

/// ValueError if it is not a future of this loop.
void check_same_loop(FutureBase& future, EventLoop& loop);

/// One thing that is gathered.
struct GatherChild : DoneNode {
    GatherChild() noexcept : DoneNode(&GatherChild::run) {}
    static void run(Runnable& self, How how);

    class Gathering* gathering = nullptr;
    Ref<FutureBase> future;
    bool duplicate = false;  // of an earlier child: runs and counts once
    bool movable = false;    // the result may be moved out: nobody else was given the future
};

/// gather() without its results' types. Part of the future that gather() gives, which it keeps alive until every child is done
/// or the loop is closed.
class Gathering : private LoopResource {
  public:
    Gathering(const Gathering&) = delete;
    Gathering& operator=(const Gathering&) = delete;

  protected:
    explicit Gathering(bool return_errors) noexcept : return_errors_(return_errors) {}
    ~Gathering() override = default;

    /// First thing in the destructor of whoever has the children.
    void leave_children() noexcept;
    /// `may_repeat`: the same future may be there several times.
    void begin(FutureBase& outer, GatherChild* children, std::size_t count, bool may_repeat);
    bool cancel_children(std::string_view message);
    void awaited_children(std::vector<FutureBase*>& futures) const;
    /// All children are done: puts the results into the future.
    virtual void collect() = 0;

  private:
    friend struct GatherChild;
    template <class>
    friend struct LayoutOf;

    void child_done(GatherChild& child);
    void loop_closed() noexcept override;

    FutureBase* outer_ = nullptr;
    GatherChild* children_ = nullptr;
    std::size_t count_ = 0;
    std::size_t unfinished_ = 0;
    bool return_errors_;
    bool cancel_requested_ = false;
};

/// The future of something awaitable; a coroutine becomes a task at once.
template <class A>
    requires requires(A&& a) { ensure_future(std::forward<A>(a)); }
auto to_future(A&& awaitable) {
    if constexpr (FutureLike<A>) {
        return ensure_future(std::forward<A>(awaitable));
    } else {
        return ensure_future(std::forward<A>(awaitable),
                             std::source_location());  // the program's line is not known
    }
}
template <class A>
using ResultOf = typename decltype(to_future(std::declval<A>()))::value_type;
/// Coroutines are gathered alone, and futures given up as rvalues too: their results are moved.
template <class A>
inline constexpr bool GIVEN_UP = !FutureLike<A> || (!std::is_lvalue_reference_v<A> && !std::is_const_v<A>);

/// What is known of a child before it runs: its result, and whether it is a coroutine, whose task nobody else can see.
template <class A>
struct Gathered {
    using Value = ResultOf<A>;
    static constexpr bool ALONE = !FutureLike<A>;
};

template <class T, class Element, bool ALONE>
Element take_child(GatherChild& child) {
    constexpr bool OUTCOME = std::is_same_v<Element, Outcome<T>>;
    if constexpr (OUTCOME) {
        if (auto error = child.future->outcome_error()) return Element(error);
    }
    if constexpr (std::is_void_v<T>) {
        if constexpr (OUTCOME) {
            return Element(std::in_place);
        } else {
            return {};
        }
    } else {
        T& value = *static_cast<T*>(child.future->value());
        auto make = [](auto&& v) {
            if constexpr (OUTCOME) {
                return Element(std::in_place, std::forward<decltype(v)>(v));
            } else {
                return Element(std::forward<decltype(v)>(v));
            }
        };
        if constexpr (!ALONE && COPYABLE<T>) {
            return child.movable ? make(std::move(value)) : make(std::as_const(value));
        } else {
            return make(std::move(value));
        }
    }
}

template <bool ERRORS, class... Ts>
using GatherTuple = std::tuple<std::conditional_t<ERRORS, Outcome<Ts>, ValueOf<Ts>>...>;

template <bool ERRORS, class... Gs>
class GatherTupleState final : public FutureState<GatherTuple<ERRORS, typename Gs::Value...>>,
                               private Gathering {
    using Result = GatherTuple<ERRORS, typename Gs::Value...>;
    static constexpr bool MAY_REPEAT = (!Gs::ALONE + ... + 0) > 1;

  public:
    template <class... As>
    explicit GatherTupleState(EventLoop& loop, As&&... awaitables)
        : FutureState<Result>(loop), Gathering(ERRORS) {
        std::size_t i = 0;
        ((children_[i].movable = GIVEN_UP<As>,
          children_[i++].future = to_future(std::forward<As>(awaitables)).handle()),
         ...);
    }
    ~GatherTupleState() override { leave_children(); }
    void start() { begin(*this, children_, sizeof...(Gs), MAY_REPEAT); }
    bool cancel(std::string_view message) override { return !this->done() && cancel_children(message); }
    void awaited(std::vector<FutureBase*>& futures) const override { awaited_children(futures); }

  private:
    void collect() override { collect(std::index_sequence_for<Gs...>()); }
    template <std::size_t... I>
    void collect(std::index_sequence<I...>) {
        this->set_result(Result(
            take_child<typename Gs::Value, std::tuple_element_t<I, Result>, Gs::ALONE>(children_[I])...));
    }
    const char* kind() const noexcept override { return "_GatheringFuture"; }

    GatherChild children_[sizeof...(Gs) > 0 ? sizeof...(Gs) : 1];
};

template <bool ERRORS, class T>
using GatherElement = std::conditional_t<ERRORS, Outcome<T>, ValueOf<T>>;

template <bool ERRORS, class G>
class GatherVectorState final : public FutureState<std::vector<GatherElement<ERRORS, typename G::Value>>>,
                                private Gathering {
    using Element = GatherElement<ERRORS, typename G::Value>;

  public:
    template <class Range>
    GatherVectorState(EventLoop& loop, Range&& range, std::size_t size)
        : FutureState<std::vector<Element>>(loop),
          Gathering(ERRORS),
          children_(std::make_unique<GatherChild[]>(size)),
          size_(size) {
        std::size_t i = 0;
        for (auto&& awaitable : range) {
            using A = decltype(awaitable);
            if constexpr (std::is_lvalue_reference_v<Range>) {
                children_[i].movable = GIVEN_UP<A>;
                children_[i++].future = to_future(awaitable).handle();
            } else {
                children_[i].movable = true;
                children_[i++].future = to_future(std::move(awaitable)).handle();
            }
        }
    }
    ~GatherVectorState() override { leave_children(); }
    void start() { begin(*this, children_.get(), size_, !G::ALONE); }
    bool cancel(std::string_view message) override { return !this->done() && cancel_children(message); }
    void awaited(std::vector<FutureBase*>& futures) const override { awaited_children(futures); }

  private:
    void collect() override {
        std::vector<Element> results;
        results.reserve(size_);
        for (std::size_t i = 0; i < size_; ++i)
            results.push_back(take_child<typename G::Value, Element, G::ALONE>(children_[i]));
        this->set_result(std::move(results));
    }
    const char* kind() const noexcept override { return "_GatheringFuture"; }

    std::unique_ptr<GatherChild[]> children_;
    std::size_t size_;
};

template <bool ERRORS, class... As>
auto gather_these(As&&... awaitables) {
    using State = GatherTupleState<ERRORS, Gathered<As>...>;
    EventLoop& loop = get_event_loop();
    auto* state = new State(loop, std::forward<As>(awaitables)...);
    Future<GatherTuple<ERRORS, ResultOf<As>...>> future{Ref<FutureBase>(state)};
    state->start();
    return future;
}

template <bool ERRORS, SizedRange Range>
auto gather_range(Range&& range) {
    using Reference = RangeReference<Range>;
    using G = Gathered<
        std::conditional_t<std::is_lvalue_reference_v<Range>, Reference, std::remove_reference_t<Reference>>>;
    EventLoop& loop = get_event_loop();
    auto* state = new GatherVectorState<ERRORS, G>(loop, std::forward<Range>(range), size_of(range));
    Future<std::vector<GatherElement<ERRORS, typename G::Value>>> future{Ref<FutureBase>(state)};
    state->start();
    return future;
}

template <class A>
concept Gatherable = requires(A&& a) { to_future(std::forward<A>(a)); };

}  // namespace detail

/// Runs all and gives a Future of their results, a tuple in the order of the arguments (`void` is None). Coroutines become
/// tasks at the call. The first error completes it at once; the others run on, and what they throw later is dropped.
template <class... As>
    requires(detail::Gatherable<As> && ...)
auto gather(As&&... awaitables) {
    return detail::gather_these<false>(std::forward<As>(awaitables)...);
}
/// The same of a range, an rvalue where it holds coroutines: a Future of a vector.
template <detail::SizedRange Range>
    requires(!detail::Gatherable<Range>)
auto gather(Range&& range) {
    return detail::gather_range<false>(std::forward<Range>(range));
}
/// Waits for all; each result is an Outcome.
template <class... As>
    requires(detail::Gatherable<As> && ...)
auto gather(return_exceptions_t, As&&... awaitables) {
    return detail::gather_these<true>(std::forward<As>(awaitables)...);
}
template <detail::SizedRange Range>
    requires(!detail::Gatherable<Range>)
auto gather(return_exceptions_t, Range&& range) {
    return detail::gather_range<true>(std::forward<Range>(range));
}

enum class ReturnWhen { ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION };
inline constexpr ReturnWhen ALL_COMPLETED = ReturnWhen::ALL_COMPLETED;
inline constexpr ReturnWhen FIRST_COMPLETED = ReturnWhen::FIRST_COMPLETED;
inline constexpr ReturnWhen FIRST_EXCEPTION = ReturnWhen::FIRST_EXCEPTION;

struct WaitOptions {
    std::optional<Duration> timeout{};
    ReturnWhen return_when = ALL_COMPLETED;
};

/// In the order given, without duplicates.
template <class F>
struct WaitResult {
    std::vector<F> done;
    std::vector<F> pending;
};

namespace detail {

/// Suspends until enough of the futures are done, or the time is over.
Coro<> wait_for_futures(std::vector<Ref<FutureBase>> futures, WaitOptions options);
/// Cancels one that is pending and waits until it is done: TimeoutError if it was cancelled so.
Coro<> cancel_unless_done(Ref<FutureBase> future);
/// When the outer future of a shield ends before the inner one: the inner one goes on, watched for errors.
void let_go_when_done(FutureBase& outer, FutureBase& inner, DoneCallback follow);

/// Leaves the first of each.
void drop_repeated(std::vector<Ref<FutureBase>>& futures);

template <class F>
Coro<WaitResult<F>> wait_typed(std::vector<F> futures, WaitOptions options) {
    std::vector<Ref<FutureBase>> states;
    states.reserve(futures.size());
    for (const F& future : futures) states.emplace_back(&future.state());
    drop_repeated(states);
    co_await wait_for_futures(states, options);
    WaitResult<F> result;
    for (Ref<FutureBase>& state : states) {
        auto& place = state->done() ? result.done : result.pending;
        place.push_back(F(std::move(state)));
    }
    co_return result;
}

}  // namespace detail

/// Waits for tasks or futures (no coroutines: make tasks of them first). Never throws their errors and never cancels them.
/// ValueError if there are none.
template <detail::FutureLike F>
Coro<WaitResult<F>> wait(std::vector<F> futures, WaitOptions options = {}) {
    return detail::wait_typed(std::move(futures), options);
}
template <detail::FutureLike F>
Coro<WaitResult<F>> wait(std::initializer_list<F> futures, WaitOptions options = {}) {
    return detail::wait_typed(std::vector<F>(futures), options);
}

/// Awaits with a time limit: TimeoutError after `timeout`, once the awaitable has been cancelled and has ended. A coroutine runs
/// in the calling task. No limit: nullopt. Zero or less: only what is done already counts.
template <class A>
    requires detail::Awaitable<A>
auto wait_for(A&& awaitable, std::optional<Duration> timeout)
    -> Coro<std::remove_cvref_t<detail::AwaitResult<A>>>;

template <class A, class Rep, class Period>
    requires detail::Awaitable<A>
auto wait_for(A&& awaitable, std::chrono::duration<Rep, Period> timeout) {
    return wait_for(std::forward<A>(awaitable), std::optional<Duration>(detail::to_duration(timeout)));
}

namespace detail {

/// What a coroutine keeps of an awaitable: the Coro itself, or a handle of the future.
template <class A>
auto keep_awaitable(A&& awaitable) {
    if constexpr (FutureLike<A>) {
        return std::remove_cvref_t<A>(std::forward<A>(awaitable));
    } else {
        return []<class T>(Coro<T> coro) { return coro; }(std::forward<A>(awaitable));
    }
}

template <class T, bool MOVE, class Kept>
Coro<T> wait_for_kept(Kept kept, std::optional<Duration> limit) {
    if (limit && *limit <= Duration::zero()) {
        auto future = to_future(std::move(kept));
        co_await cancel_unless_done(future.handle());
        co_return co_await std::move(future);
    }
    // The limit of `timeout()`, without a coroutine of its own around the body.
    Timeout scope = timeout(limit);
    scope.enter();
    std::optional<Outcome<T>> outcome;
    if constexpr (FutureLike<Kept> && !MOVE) {
        outcome.emplace(co_await try_await(kept));
    } else {
        outcome.emplace(co_await try_await(std::move(kept)));
    }
    scope.exit(outcome->exception());
    if constexpr (std::is_void_v<T>) {
        outcome->value();
    } else {
        co_return std::move(*outcome).value();
    }
}

}  // namespace detail

template <class A>
    requires detail::Awaitable<A>
auto wait_for(A&& awaitable, std::optional<Duration> timeout)
    -> Coro<std::remove_cvref_t<detail::AwaitResult<A>>> {
    using T = std::remove_cvref_t<detail::AwaitResult<A>>;
    return detail::wait_for_kept<T, detail::GIVEN_UP<A>>(detail::keep_awaitable(std::forward<A>(awaitable)),
                                                         timeout);
}

struct AsCompletedOptions {
    std::optional<Duration> timeout{};
};

/// What a loop over `as_completed()` gives: await it, as an lvalue too, once, for the result of the next future that is done, or
/// its error; TimeoutError if the time was over first.
template <class T>
class Completion : public Coro<T> {
  public:
    explicit Completion(Coro<T> coro) noexcept : Coro<T>(std::move(coro)) {}
};

namespace detail {

template <class T>
struct AwaitTraits<Completion<T>> : AwaitTraits<Coro<T>> {};
template <class T>
struct AwaitTraits<Completion<T>&> {
    using Result = T;
    static CoroAwaiter<T> awaiter(Completion<T>& next) { return CoroAwaiter<T>(std::move(next)); }
};

/// The futures of as_completed() that are done, in that order. Kept by its callbacks and by whoever waits for the next one.
class Completions;

/// ValueError if one is not a future of this loop. Leaves the first of each.
std::shared_ptr<Completions> watch_completions(std::vector<Ref<FutureBase>>& futures,
                                               AsCompletedOptions options, EventLoop& loop);
/// TimeoutError if the time was over first.
Coro<Ref<FutureBase>> next_completion(std::shared_ptr<Completions> completions);

}  // namespace detail

/// The futures given to `as_completed()`, in the order in which they are done. Loop over it, or call `next()`.
template <class F, bool MOVE>
class AsCompleted {
  public:
    using value_type = typename F::value_type;

    /// `while (auto task = co_await all.next())`: the next task or future itself, done; nothing when there are no more.
    /// TimeoutError if the time was over first.
    Coro<std::optional<F>> next() {
        if (unclaimed_ == 0) return nothing();
        --unclaimed_;
        return wrap(completions_);
    }

    /// `for (auto& next : all) { auto value = co_await next; … }`. Input iterators: one loop at a time.
    class Iterator {
      public:
        explicit Iterator(AsCompleted& all) : all_(&all) { all_->advance(); }
        Completion<value_type>& operator*() const noexcept { return *all_->current_; }
        Iterator& operator++() {
            all_->advance();
            return *this;
        }
        bool operator==(std::default_sentinel_t) const noexcept { return !all_->current_; }

      private:
        AsCompleted* all_;
    };
    Iterator begin() { return Iterator(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }

    /// For as_completed().
    AsCompleted(std::vector<detail::Ref<detail::FutureBase>> futures, AsCompletedOptions options,
                EventLoop& loop)
        : completions_(detail::watch_completions(futures, options, loop)), unclaimed_(futures.size()) {}

  private:
    using Kept = std::shared_ptr<detail::Completions>;
    static Coro<std::optional<F>> nothing() { co_return std::nullopt; }
    static Coro<std::optional<F>> wrap(Kept completions) {
        co_return F(co_await detail::next_completion(std::move(completions)));
    }
    static Coro<value_type> result_of_next(Kept completions) {
        F future(co_await detail::next_completion(std::move(completions)));
        if constexpr (MOVE) {
            co_return co_await std::move(future);
        } else {
            co_return co_await future;
        }
    }
    void advance() {
        current_.reset();
        if (unclaimed_ == 0) return;
        --unclaimed_;
        current_.emplace(result_of_next(completions_));
    }

    Kept completions_;
    std::size_t unclaimed_;
    std::optional<Completion<value_type>> current_;
};

/// Starts all of a range, an rvalue where it holds coroutines, and gives their results in the order in which they are done. When
/// the time is over, each that is still open gives TimeoutError; nothing is cancelled, and whoever leaves early leaves the
/// rest running. A future that is given twice comes once.
template <detail::Range Range>
    requires(!detail::Gatherable<Range>)
auto as_completed(Range&& range, AsCompletedOptions options = {}) {
    constexpr bool LVALUE = std::is_lvalue_reference_v<Range>;
    using Reference = detail::RangeReference<Range>;
    using A = std::conditional_t<LVALUE, Reference, std::remove_reference_t<Reference>>;
    using F = decltype(detail::to_future(std::declval<A>()));
    std::vector<detail::Ref<detail::FutureBase>> futures;
    for (auto&& awaitable : range)
        futures.push_back(
            detail::to_future(static_cast<std::conditional_t<LVALUE, A, A&&>>(awaitable)).handle());
    return AsCompleted<F, detail::GIVEN_UP<A>>(std::move(futures), options, get_event_loop());
}

namespace detail {
template <class A>
using Shielded =
    std::conditional_t<GIVEN_UP<A> || !COPYABLE<ResultOf<A>>, Future<ResultOf<A>>, const Future<ResultOf<A>>>;
}

/// A future that follows the awaitable but does not pass its own cancellation on to it. What the awaitable throws after that
/// goes to the exception handler. A future that is done is given back itself; const, because others may hold it:
/// `co_await shield(task)` must not move the task's result away.
template <class A>
    requires detail::Gatherable<A>
auto shield(A&& awaitable) -> detail::Shielded<A> {
    using T = detail::ResultOf<A>;
    constexpr bool MOVE = detail::GIVEN_UP<A>;
    Future<T> inner = detail::to_future(std::forward<A>(awaitable));
    if (inner.done()) return inner;
    Future<T> outer = inner.get_loop().template create_future<T>();
    DoneCallback follow = inner.add_done_callback([outer](Future<T> ended) mutable {
        detail::FutureBase& state = ended.state();
        if (outer.cancelled()) return;
        if (state.cancelled()) {
            outer.cancel();
        } else if (auto error = state.outcome_error()) {
            outer.set_exception(std::move(error));
        } else if constexpr (std::is_void_v<T>) {
            outer.set_result();
        } else if constexpr (MOVE || !detail::COPYABLE<T>) {
            outer.set_result(std::move(*static_cast<T*>(state.value())));
        } else {
            outer.set_result(*static_cast<const T*>(state.value()));
        }
    });
    detail::let_go_when_done(outer.state(), inner.state(), std::move(follow));
    return outer;
}

}  // namespace coil
