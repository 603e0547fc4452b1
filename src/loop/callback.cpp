#include "coil/detail/callback.hpp"

#include <fmt/format.h>

#include <exception>
#include <utility>

#include "base/type_name.hpp"
#include "coil/events.hpp"
#include "loop/report.hpp"
#include "loop/run_watch.hpp"

namespace coil {

namespace detail {

void CallbackBase::cancel() noexcept {
    if (cancelled()) return;
    cancelled_.store(true, std::memory_order_relaxed);
    if (shared_) return;  // perhaps in another thread: the callable goes with the last owner
    if (scheduled()) {
        loop_->core().timers.remove(*this);
        release();  // the heap's; the caller has one
    }
    if (live_) {
        // Now, not when its turn comes: what the arguments own may be waited for.
        live_ = false;
        drop();
    }
}

std::string CallbackBase::describe(std::string_view kind) const {
    std::string place = place_kept_ ? creation_place(this) : "";
    return fmt::format("<{} {}{}{}{}>", kind, type_name(callable_type()), cancelled() ? " cancelled" : "",
                       place.empty() ? "" : ", ", place);
}

Context CallbackBase::get_context() const {
    if (context_given_) return Context(given_);
    Context context;
    context.state()->slot->map = own_.map;
    return context;
}

void CallbackBase::run(Runnable& self, How how) {
    auto& callback = static_cast<CallbackBase&>(self);
    auto owner = Ref<CallbackBase>::adopt(&callback);  // the queue's
    callback.queued_ = false;
    if (how == How::DISCARD || callback.cancelled() || !callback.live_) return;
    ContextScope scope(callback.context());
    try {
        callback.call();
    } catch (const KeyboardInterrupt&) {
        throw;
    } catch (...) {
        report_callback_error(*callback.loop_, type_name(callback.callable_type()), std::current_exception(),
                              Handle(owner));
    }
    describe_run([&] { return callback.describe("Handle"); });
    if (!callback.repeats_ && callback.live_) {
        callback.live_ = false;
        callback.drop();
    }
}

void report_callback_error(EventLoop& loop, const std::string& name, std::exception_ptr error,
                           Handle handle) {
    ExceptionContext context{.message = "Exception in callback " + name,
                             .exception = std::move(error),
                             .handle = std::move(handle)};
    if (context.handle) {
        context.details.emplace("handle", context.handle.describe());
        add_creation(context, context.handle.state().get());
    }
    loop.call_exception_handler(context);
}

void add_creation(ExceptionContext& context, const void* object) {
    std::string trail = creation_trail(object);
    if (!trail.empty())
        context.details.emplace("source_traceback", "Object created at (most recent call last):\n" + trail);
}

}  // namespace detail

void Handle::cancel() noexcept {
    if (!state_) return;
    auto keep = state_;
    keep->cancel();
}

}  // namespace coil
