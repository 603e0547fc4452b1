#pragma once

#include <exception>
#include <string>

#include "coil/events.hpp"

namespace coil::detail {

/// Adds where the object at fault was made, if that is kept.
void add_creation(ExceptionContext& context, const void* object);
/// Tells the exception handler that a callback threw.
void report_callback_error(EventLoop& loop, const std::string& name, std::exception_ptr error, Handle handle);

}  // namespace coil::detail
