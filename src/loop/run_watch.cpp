#include "loop/run_watch.hpp"

#include <fmt/format.h>

#include "coil/log.hpp"
#include "loop/hooks.hpp"

namespace coil::detail {

RunWatch::RunWatch(LoopCore& core, const Duration& limit) noexcept
    : core_(core), limit_(limit), warns_(core.debug) {
    thread_state.run_watch = this;
}

RunWatch::~RunWatch() {
    thread_state.run_watch = nullptr;
    if (running_ && tracer_) trace(Clock::now());  // an interrupt leaves the loop
}

void RunWatch::begin(const Runnable& next) noexcept {
    function_ = next.function_;
    slow_what_.clear();
    tracer_ = core_.tracer;
    if (tracer_) {
        node_ = &next;
        back_ = core_.ready.back();
        stepped_ = nullptr;
        what_.clear();
        describing_ = {};
        arrow_ = tracer_->popped(next);
    }
    running_ = true;
    began_ = Clock::now();
}

void RunWatch::describe(std::string what) {
    if (warns_ && slow(asked_ - began_)) describe_slow(what);
    if (!tracer_) return;
    what_ = std::move(what);
    describing_ += Clock::now() - asked_;
}

void RunWatch::end() {
    running_ = false;
    bool own_step = stepped_ && what_.empty();
    auto ended = own_step && !warns_ ? slice_.ended : Clock::now();
    if (tracer_) trace(ended);
    if (warns_ && slow(ended - began_)) warn(ended - began_);
}

std::string_view RunWatch::name() const {
    const char* name = loop_hooks.name_run(function_);
    return name ? name : "a callback of coil's own";
}

void RunWatch::warn(Clock::duration took) const {
    log(LogLevel::WARNING,
        fmt::format("Executing {} took {:.3f} seconds", slow_what_.empty() ? name() : slow_what_,
                    std::chrono::duration<double>(took).count()));
}

void RunWatch::trace(Clock::time_point ended) {
    Tracer& tracer = *tracer_;
    tracer.attempt([&] {
        if (!stepped_ || !what_.empty()) {
            stepped_ = nullptr;
            slice_ = {0, began_, ended - describing_};
            tracer.callback(slice_, what_.empty() ? name() : what_, slow(slice_.ended - began_));
        }
        if (arrow_) tracer.arrow_ends(slice_, arrow_);
        for (const Runnable* node = back_ ? back_->next_ : core_.ready.front(); node; node = node->next_)
            if (node != node_ && node != stepped_) tracer.arrow_begins(slice_, *node);
    });
}

}  // namespace coil::detail
