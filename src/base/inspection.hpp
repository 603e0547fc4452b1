#pragma once

// What somebody who looks at the memory of a program from outside (`coil ps`, a core file, gdb) must know of it: where the loops
// are, and what the fields of tasks and waits mean. Tables in a section of their own, so that a stripped program has them too;
// nothing of it runs. The reader is tools/coil.
//
// A kind of wait that has something to tell puts its rows beside it:
//
//     template <>
//     struct LayoutOf<SomeWait> { static constexpr InspectionPath lock = {offsetof(SomeWait, lock_), offsetof(Lock, holder_)}; };
//     COIL_INSPECTION_ROWS(some_wait) = {{"coil::SomeWait", "held by", InspectionKind::TASK, LayoutOf<SomeWait>::lock}};

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "coil/detail/runnable.hpp"

// Offsets in classes with bases and virtual functions: both compilers know them.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

#define COIL_INSPECTION_ROOT_SECTION "coil_inspection"
#define COIL_INSPECTION_ROWS_SECTION "coil_inspection_rows"
#define COIL_INSPECTION_ROWS(name) \
    [[gnu::used, gnu::retain,      \
      gnu::section(                \
          COIL_INSPECTION_ROWS_SECTION)]] constinit static coil::detail::InspectionRow name##_rows[]

namespace coil::detail {

/// A friend of classes with private fields that rows refer to.
template <class T>
struct LayoutOf;

/// From an object to a value: all offsets but the last lead to a pointer or a reference, which is followed.
class InspectionPath {
  public:
    static constexpr std::size_t LONGEST = 6;

    constexpr InspectionPath() noexcept = default;
    constexpr InspectionPath(std::initializer_list<std::size_t> offsets) noexcept {
        for (std::size_t offset : offsets) offsets_[length_++] = static_cast<std::uint16_t>(offset);
    }
    constexpr std::size_t length() const noexcept { return length_; }
    constexpr std::size_t operator[](std::size_t i) const noexcept { return offsets_[i]; }

  private:
    std::uint16_t length_ = 0;
    std::uint16_t offsets_[LONGEST] = {};
};

/// What is at the end of a path.
enum class InspectionKind : std::uint32_t {
    NAME,        // nothing: the label is the description
    TEXT,        // const char*: the description
    STRING,      // std::string: the description
    COUNT,       // std::size_t
    SECONDS,     // Duration
    TIMER,       // Timer: when it is due
    DESCRIPTOR,  // int
    TASK,        // TaskBase*, or null
    FUTURE,      // FutureBase*
    CALLABLE,    // DoneCallable*, of a Runnable: has rows itself
};

/// A fact about objects of one type, or about runnables with one function. The alignment is a compiler's largest for arrays of
/// structures: so there are no gaps between the rows of different files.
struct alignas(64) InspectionRow {
    const char* type;   // the name of the object's dynamic type begins so; null: of a Runnable
    const char* label;  // "held by"
    InspectionKind kind;
    InspectionPath path;
    Runnable::Function function =
        nullptr;  // of a Runnable: the path leads to the task or future that it makes go on
};

/// The one table that is found by its section; offsets as their names say.
struct InspectionRoot {
    static constexpr char MAGIC[16] = "coil inspection";
    static constexpr std::uint32_t VERSION = 1;

    char magic[16];
    std::uint32_t version;
    std::uint32_t size;      // sizeof(InspectionRoot)
    std::uint32_t row_size;  // sizeof(InspectionRow)
    const void* first_loop;  // address of the pointer to the first LoopCore

    std::uint32_t loop_next;
    std::uint32_t loop_tasks;   // the list's head
    std::uint32_t loop_ready;   // the first Runnable
    std::uint32_t loop_timers;  // a vector
    std::uint32_t loop_thread;
    std::uint32_t loop_running;
    std::uint32_t runnable_function;
    std::uint32_t runnable_next;
    std::uint32_t timer_entry_size;
    std::uint32_t timer_entry_when;
    std::uint32_t list_prev;
    std::uint32_t list_next;
    std::uint32_t future_first_waiter;
    std::uint32_t task_node;  // in the loop's list
    std::uint32_t task_runnable;
    std::uint32_t task_waiting_on;
    std::uint32_t task_innermost;
    std::uint32_t task_name;
    std::uint32_t task_created_at;
    std::uint32_t task_created;  // milliseconds of CLOCK_MONOTONIC_COARSE, modulo 2^32
    std::uint32_t promise_awaiter;
    std::uint32_t promise_where;
    std::uint32_t awaiter_parent;  // the promise of the parent
};

}  // namespace coil::detail
