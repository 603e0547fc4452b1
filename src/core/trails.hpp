#pragma once

// What tracebacks are made of: the lines of the coroutines that an exception has left, kept beside it.
//
//   in flight    in a ring of the thread's, for the last exceptions, found by a number that the exception carries (see Layout in
//                traceback.cpp); a passage costs a few stores
//   in a future  a copy in a table, from the end of a task, or set_exception(), until the future goes
//
// What is rethrown from a future goes on from that future's copy, so that those who await the same one do not mix their ways.

#include <exception>
#include <functional>

namespace coil::detail {

class FutureBase;

/// The future has got this error. True: a trail is kept for it, until forget_trail().
bool keep_trail(const FutureBase& future, const std::exception_ptr& error) noexcept;
void forget_trail(const FutureBase& future, const std::exception_ptr& error) noexcept;
/// The future's error is about to be thrown: its trail goes on from what the future keeps.
void resume_trail(const FutureBase& future, const std::exception_ptr& error) noexcept;
/// The error is about to be thrown, and has no trail yet.
void begin_trail(const std::exception_ptr& error) noexcept;
/// The error, which is being handled, keeps its trail however many exceptions fly in `between`.
void keep_in_flight(const std::exception_ptr& error, const std::function<void()>& between);

}  // namespace coil::detail
