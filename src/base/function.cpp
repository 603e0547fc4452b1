#include "coil/detail/function.hpp"

#include "coil/exceptions.hpp"

namespace coil::detail {

void throw_empty_function() { throw RuntimeError("an empty Function was called"); }

}  // namespace coil::detail
