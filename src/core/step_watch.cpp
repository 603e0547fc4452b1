#include "core/step_watch.hpp"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "coil/coroutines.hpp"
#include "coil/log.hpp"

namespace coil::detail {

namespace {

std::string place(const std::source_location& at) { return fmt::format("{}:{}", at.file_name(), at.line()); }

const char* ending(const TaskBase& task) {
    if (task.cancelled()) return "cancelled";
    return task.stored_error() ? "failed" : "done";
}

/// Where the innermost coroutine is that is not coil's own: that of a queue, say, tells nobody who uses the time.
const std::source_location& place_of_program(const PromiseBase& innermost) {
    const PromiseBase* promise = &innermost;
    while (promise && function_of(promise->where().function_name()).starts_with("coil::"))
        promise = promise->awaiter() ? promise->awaiter()->parent_promise_ : nullptr;
    return promise ? promise->where() : innermost.where();
}

}  // namespace

std::string_view function_of(std::string_view signature) {
    std::string_view text = signature.substr(0, signature.find(" ["));  // a template's arguments
    std::size_t end = text.size();
    std::size_t close = text.rfind(')');
    bool parameters = close != std::string_view::npos && (close + 1 == end || text[close + 1] == ' ');
    if (parameters) text = text.substr(0, close + 1);  // without "const"
    // From the back: over the parameters, and then to the space in front of the name.
    end = text.size();
    int depth = 0;
    for (std::size_t i = end; i-- > 0;) {
        char c = text[i];
        if (c == ')' || c == '>' || c == '}') {
            ++depth;
        } else if (c == '(' || c == '<' || c == '{') {
            --depth;
            if (depth == 0 && std::exchange(parameters, false)) end = i;
        } else if (c == ' ' && depth == 0) {
            return text.substr(i + 1, end - i - 1);
        }
    }
    return text.substr(0, end);
}

StepWatch::StepWatch(TaskBase& task)
    : task_(task), run_(*thread_state.run_watch), from_(task.innermost()->where()), tracer_(run_.tracer()) {
    if (!tracer_) return;
    tracer_->attempt([&] {
        track_ = &tracer_->track(&task_);
        traced_from_ = place_of_program(*task_.innermost());
    });
    began_ = Tracer::Clock::now();
}

StepWatch::~StepWatch() {
    if (track_) {
        auto ended = Tracer::Clock::now();
        tracer_->attempt([&] { trace(*tracer_, *track_, ended); });
    }
    try {
        if (run_.to_be_warned_of()) run_.describe_slow(describe());
    } catch (...) {
        log(LogLevel::WARNING, "a step of a task was slow; there is no memory to describe it");
    }
}

void StepWatch::trace(Tracer& tracer, Tracer::Track& track, Tracer::Time ended) {
    tracer.waited(track, began_);
    track.waits_on.clear();

    const PromiseBase* now = task_.innermost();
    bool first = track.name.empty();
    if (first || !now) tracer.name_track(track, task_.get_name());
    fmt::memory_buffer arguments;
    auto add = [&](std::string_view key, const std::source_location& at) {
        for (std::string_view part :
             {std::string_view(arguments.size() == 0 ? "\"" : ",\""), key, std::string_view("\":\"")})
            arguments.append(part.data(), part.data() + part.size());
        append_json(arguments, at.file_name());
        std::string line = ":" + std::to_string(at.line()) + "\"";
        arguments.append(line.data(), line.data() + line.size());
    };
    add("from", traced_from_);
    if (now) add("to", place_of_program(*now));
    if (first && task_.created_at().line() != 0) add("created", task_.created_at());

    Tracer::Slice slice{track.number, began_, ended};
    tracer.step(slice, function_of(traced_from_.function_name()), {arguments.data(), arguments.size()},
                run_.slow(ended - began_));
    run_.stepped(slice, task_);
    if (task_.done()) {
        tracer.mark(slice, ending(task_));
        tracer.forget_track(&task_);
    } else if (const Waiter* waiter = task_.waiting_on()) {
        track.waits_on = waiter->describe();
        // The wait's own length says it, and waits of one kind should have one name.
        if (auto due = track.waits_on.find(", due in "); due != std::string::npos) track.waits_on.resize(due);
        track.waits_since = ended;
    }
}

std::string StepWatch::describe() const {
    const PromiseBase* now = task_.innermost();
    return fmt::format("<{} running from {} in {} to {}>", task_.label(), place(from_), from_.function_name(),
                       now ? fmt::format("{} in {}", place(now->where()), now->where().function_name())
                           : std::string("its end"));
}

}  // namespace coil::detail
