#pragma once

// All of coil. Each part also has a header of its own.

#include "coil/async_generators.hpp"
#include "coil/combinators.hpp"
#include "coil/contextlib.hpp"
#include "coil/contextvars.hpp"
#include "coil/coroutines.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/futures.hpp"
#include "coil/locks.hpp"
#include "coil/log.hpp"
#include "coil/queues.hpp"
#include "coil/runners.hpp"
#include "coil/stacks.hpp"
#include "coil/taskgroups.hpp"
#include "coil/tasks.hpp"
#include "coil/timeouts.hpp"
