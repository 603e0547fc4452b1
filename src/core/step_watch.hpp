#pragma once

#include <source_location>
#include <string>

#include "coil/detail/task_base.hpp"
#include "loop/run_watch.hpp"

namespace coil::detail {

/// Around a step of a task that is looked at: writes it to the trace, and says what it was if it was slow.
class StepWatch {
  public:
    explicit StepWatch(TaskBase& task);
    ~StepWatch();
    StepWatch(const StepWatch&) = delete;
    StepWatch& operator=(const StepWatch&) = delete;

  private:
    void trace(Tracer& tracer, Tracer::Track& track, Tracer::Time ended);
    std::string describe() const;

    TaskBase& task_;
    RunWatch& run_;
    const std::source_location from_;
    Ref<Tracer> tracer_;  // the step may end the trace
    Tracer::Track* track_ = nullptr;
    std::source_location traced_from_;
    Tracer::Time began_;
};

/// "f" of "coil::Coro<> f(int)".
std::string_view function_of(std::string_view signature);

}  // namespace coil::detail
