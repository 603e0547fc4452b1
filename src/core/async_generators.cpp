#include "coil/async_generators.hpp"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "coil/log.hpp"
#include "coil/tasks.hpp"

namespace coil {

namespace detail {

AsyncGeneratorBase::Resume::Resume(AsyncGeneratorBase& generator, const char* operation,
                                   std::exception_ptr thrown)
    : generator_(&generator), thrown_(std::move(thrown)) {
    if (generator.state_ == State::RUNNING)
        throw RuntimeError(std::string(operation) + ": asynchronous generator is already running");
    if (generator.state_ == State::CREATED) generator.track();
}

AsyncGeneratorBase::Resume::~Resume() {
    if (!driving_) return;
    if (generator_->state_ == State::RUNNING) {
        // Destroyed with a task that will never go on: nor will the generator.
        generator_->state_ = State::FINISHED;
        generator_->awaiter_ = nullptr;
        if (generator_->linked()) generator_->unlink();
    }
}

void AsyncGeneratorBase::Resume::begin() noexcept {
    driving_ = true;
    generator_->state_ = State::RUNNING;
    generator_->thrown_ = std::move(thrown_);
    generator_->awaiter_ = this;
}

bool AsyncGeneratorBase::Resume::await_resume() {
    if (generator_->state_ == State::SUSPENDED) return true;
    if (auto error = std::exchange(generator_->exception_, nullptr)) std::rethrow_exception(error);
    return false;
}

void AsyncGeneratorBase::track() {
    name_ = where_.function_name();
    EventLoop& loop = get_running_loop();
    loop_ = loop.core().anchor;
    if (loop.core().asyncgens_closed)
        log(LogLevel::WARNING, std::string("asynchronous generator ") + name() +
                                   " was scheduled after loop.shutdown_asyncgens() call");
    loop.core().asyncgens.push_back(*this);
}

namespace {

// The coroutines below hold the generator from the moment they are made, begun or not.

Coro<> close_generator(Ref<AsyncGeneratorBase> generator);
Coro<> throw_into(Ref<AsyncGeneratorBase> generator, std::exception_ptr error);

}  // namespace

void AsyncGeneratorBase::abandoned() noexcept {
    if (linked()) unlink();
    EventLoop* loop = loop_ ? loop_->loop : nullptr;
    if (state_ == State::SUSPENDED && !std::exchange(closed_by_loop_, true) && loop && !loop->is_closed()) {
        try {
            loop->call_soon([loop, closing = close()]() mutable { loop->create_task(std::move(closing)); });
            return;
        } catch (...) {  // from another thread, or without memory: it cannot be closed in the loop
            if (owners_ > 0) return;
        }
    }
    if (owners_ == 0) frame_.destroy();
}

std::string AsyncGeneratorBase::describe() const {
    static constexpr const char* STATES[] = {"not begun", "suspended", "running", "finished"};
    if (state_ == State::FINISHED) return fmt::format("<AsyncGenerator {}, finished>", name());
    return fmt::format("<AsyncGenerator {} at {}:{}, {}>", name(), where_.file_name(), where_.line(),
                       STATES[static_cast<std::size_t>(state_)]);
}

Coro<> AsyncGeneratorBase::close() { return close_generator(Ref<AsyncGeneratorBase>(this)); }
Coro<> AsyncGeneratorBase::throw_in(std::exception_ptr error) {
    return throw_into(Ref<AsyncGeneratorBase>(this), std::move(error));
}

namespace {

using State = AsyncGeneratorBase::State;

Coro<> close_generator(Ref<AsyncGeneratorBase> generator) {
    if (generator->state() == State::CREATED) generator->finish_unbegun();
    if (generator->state() == State::FINISHED) co_return;
    AsyncGeneratorBase::Resume resume(*generator, "aclose()", std::make_exception_ptr(GeneratorExit()));
    bool yielded = false;
    try {
        yielded = co_await std::move(resume);
    } catch (const GeneratorExit&) {
        co_return;
    }
    if (yielded) throw RuntimeError("async generator ignored GeneratorExit");
}

Coro<> throw_into(Ref<AsyncGeneratorBase> generator, std::exception_ptr error) {
    if (generator->state() == State::CREATED) generator->finish_unbegun();
    if (generator->state() == State::FINISHED) std::rethrow_exception(error);
    AsyncGeneratorBase::Resume resume(*generator, "athrow()", std::move(error));
    co_await std::move(resume);
}

}  // namespace

}  // namespace detail

Coro<> EventLoop::shutdown_asyncgens() {
    core_.asyncgens_closed = true;
    struct Closing {
        std::string name;
        Task<> task;
    };
    std::vector<Closing> closing;
    while (detail::AsyncGeneratorBase* generator = core_.asyncgens.front()) {
        generator->unlink();
        closing.push_back({generator->name(), create_task(generator->close())});
    }
    for (Closing& one : closing) co_await try_await(one.task);
    for (Closing& one : closing) {
        if (one.task.cancelled()) continue;
        if (std::exception_ptr error = one.task.exception()) {
            call_exception_handler(
                {.message = "an error occurred during closing of asynchronous generator " + one.name,
                 .exception = error,
                 .details = {{"asyncgen", one.name}}});
        }
    }
}

}  // namespace coil
