#include "coil/traceback.hpp"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <mutex>
#include <source_location>
#include <unordered_map>

#include "coil/coroutines.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "core/trails.hpp"
#include "loop/hooks.hpp"

namespace coil {

namespace detail {

namespace {

// ---- exception objects

/// The exception object, as libstdc++ and libc++ keep it: their exception_ptr is a pointer.
const char* object_of(const std::exception_ptr& error) noexcept {
    static_assert(sizeof(std::exception_ptr) == sizeof(void*));
    const char* object = nullptr;
    std::memcpy(&object, &error, sizeof object);
    return object;
}

/// The header of the exception that is handled now. (Itanium C++ ABI: Exception Handling, 2.2.2.)
const char* caught_header() noexcept {
    const char* header = nullptr;
    std::memcpy(&header, abi::__cxa_get_globals(), sizeof header);
    return header;
}

/// What libstdc++ allocates for an exception: a count of references and padding, 16 bytes in all; a header; the object. All before
/// the object is zero at first. So a number in the padding tells an exception that has been seen from a new one at its address.
struct Layout {
    std::ptrdiff_t header = 0;  // its size; 0: not as expected, and there are no tracebacks

    static constexpr std::ptrdiff_t COUNT = -16;  // from the header
    static constexpr std::ptrdiff_t STAMP = -8;

    /// Looks at an exception of its own.
    Layout() noexcept {
        try {
            throw 0;
        } catch (...) {
            std::exception_ptr error = std::current_exception();
            const char* before_object = caught_header();
            std::ptrdiff_t size = object_of(error) - before_object;
            if (size <= 0 || size > 256) return;
            int count = count_before(before_object);
            std::exception_ptr second = error;
            std::uint64_t stamp = 0;
            std::memcpy(&stamp, before_object + STAMP, sizeof stamp);
            if (count > 0 && count_before(before_object) == count + 1 && stamp == 0) header = size;
        }
    }

  private:
    static int count_before(const char* header) noexcept {
        int count = 0;
        std::memcpy(&count, header + COUNT, sizeof count);
        return count;
    }
};

const Layout& layout() noexcept {
    static const Layout found;
    return found;
}

std::uint64_t* stamp_of(const char* object) noexcept {
    return reinterpret_cast<std::uint64_t*>(const_cast<char*>(object) - layout().header + Layout::STAMP);
}

/// Whether the exception that is handled now was thrown by `throw`: std::rethrow_exception makes a header of its own, apart from
/// the object.
bool is_fresh(const char* object) noexcept { return caught_header() + layout().header == object; }

/// Whether it is being handled: somebody's catch block hands it on.
bool is_handled_now(const char* object) noexcept {
    return caught_header() && object_of(std::current_exception()) == object;
}

// ---- in flight

/// An exception's way, innermost first.
struct Trail {
    static constexpr std::uint32_t MOST = 30;
    std::uint64_t stamp;   // the exception object has the same; 0: none
    std::uint32_t size;    // may be more than are kept: the innermost ones
    bool thrown_in_first;  // by a `throw` in the first coroutine, behind its line
    std::source_location lines[MOST];

    void add(const std::source_location& line) noexcept {
        if (size < MOST) lines[size] = line;
        ++size;
    }
};

struct Ring {
    static constexpr std::uint32_t SIZE = 16;
    Trail trails[SIZE];
    std::uint32_t newest;

    Trail* find(const char* object) noexcept {
        // Atomic: another thread may hold the same exception.
        std::uint64_t stamp = __atomic_load_n(stamp_of(object), __ATOMIC_RELAXED);
        if (stamp == 0) return nullptr;
        for (std::uint32_t i = 0; i < SIZE; ++i) {
            Trail& trail = trails[(newest - i) % SIZE];
            if (trail.stamp == stamp) return &trail;
        }
        return nullptr;
    }
    /// An empty one for the exception, the newest.
    Trail& begin(const char* object) noexcept {
        static std::atomic<std::uint64_t> stamps{0};
        Trail& trail = trails[++newest % SIZE];
        trail.stamp = stamps.fetch_add(1, std::memory_order_relaxed) + 1;
        trail.size = 0;
        trail.thrown_in_first = false;
        __atomic_store_n(stamp_of(object), trail.stamp, __ATOMIC_RELAXED);
        return trail;
    }
};

constinit thread_local Ring ring{};

// ---- in futures

struct Kept {
    const FutureBase* future;
    Trail trail;
};

/// By the exception object. Never destroyed: futures may be by static destructors.
struct KeptTrails {
    std::mutex mutex;
    std::unordered_multimap<const void*, Kept> by_object;

    /// The future's; null: any future's.
    auto find(const void* object, const FutureBase* future) noexcept {
        auto [begin, end] = by_object.equal_range(object);
        auto found = std::find_if(
            begin, end, [&](const auto& entry) { return !future || entry.second.future == future; });
        return found == end ? by_object.end() : found;
    }
};
KeptTrails& kept_trails() {
    static auto* trails = new KeptTrails;
    return *trails;
}

bool copy_kept(const void* object, const FutureBase* future, Trail& copy) {
    KeptTrails& kept = kept_trails();
    std::lock_guard lock(kept.mutex);
    auto found = kept.find(object, future);
    if (found == kept.by_object.end()) return false;
    copy = found->second.trail;
    return true;
}

}  // namespace

void record_passage(const std::exception_ptr& error, const std::source_location& line) noexcept {
    if (!error || layout().header == 0) return;  // another language's exceptions have no exception_ptr
    const char* object = object_of(error);
    Trail* trail = ring.find(object);
    if (!trail) {
        trail = &ring.begin(object);
        trail->thrown_in_first = is_fresh(object);
    }
    trail->add(line);
}

void begin_trail(const std::exception_ptr& error) noexcept {
    if (error && layout().header != 0) ring.begin(object_of(error));
}

void keep_in_flight(const std::exception_ptr& error, const std::function<void()>& between) {
    const char* object = error && layout().header != 0 ? object_of(error) : nullptr;
    const Trail* found = object ? ring.find(object) : nullptr;
    if (!found) return between();
    Trail copy = *found;
    between();
    if (ring.find(object)) return;
    Trail& again = ring.begin(object);
    copy.stamp = again.stamp;
    again = copy;
}

bool keep_trail(const FutureBase& future, const std::exception_ptr& error) noexcept {
    if (!error || layout().header == 0) return false;
    const char* object = object_of(error);
    Trail trail;
    try {
        if (is_handled_now(object) || future.is_task()) {
            const Trail* in_flight = ring.find(object);
            if (!in_flight || in_flight->size == 0) return false;
            trail = *in_flight;
        } else if (!copy_kept(object, nullptr, trail)) {
            return false;
        }
        KeptTrails& kept = kept_trails();
        std::lock_guard lock(kept.mutex);
        kept.by_object.emplace(object, Kept{&future, trail});
        return true;
    } catch (...) {  // no memory for it
        return false;
    }
}

void forget_trail(const FutureBase& future, const std::exception_ptr& error) noexcept {
    KeptTrails& kept = kept_trails();
    std::lock_guard lock(kept.mutex);
    auto entry = kept.find(object_of(error), &future);
    if (entry != kept.by_object.end()) kept.by_object.erase(entry);
}

void resume_trail(const FutureBase& future, const std::exception_ptr& error) noexcept {
    const char* object = object_of(error);
    Trail& trail = ring.begin(object);
    Trail kept;
    if (!copy_kept(object, &future, kept)) return;
    kept.stamp = trail.stamp;
    trail = kept;
}

namespace {

std::vector<TracebackEntry> entries_of(const Trail& trail) {
    std::vector<TracebackEntry> entries;
    std::uint32_t kept = std::min(trail.size, Trail::MOST);
    for (std::uint32_t i = kept; i-- > 0;) {
        const std::source_location& where = trail.lines[i];
        entries.push_back(
            {{where.function_name(), where.file_name(), where.line()}, i == 0 && trail.thrown_in_first});
    }
    return entries;
}

std::vector<TracebackEntry> traceback_of(const std::exception_ptr& error, const FutureBase* future) {
    if (!error || layout().header == 0) return {};
    Trail trail;
    if (future && copy_kept(object_of(error), future, trail)) return entries_of(trail);
    const Trail* in_flight = ring.find(object_of(error));
    if (in_flight && in_flight->size > 0) return entries_of(*in_flight);
    if (copy_kept(object_of(error), nullptr, trail)) return entries_of(trail);
    return {};
}

class Formatter {
  public:
    std::string text;

    void add(const std::exception_ptr& error, const std::vector<TracebackEntry>& entries,
             const std::string& indent) {
        const ExceptionGroup* group = nullptr;
        try {
            if (error) std::rethrow_exception(error);
        } catch (const ExceptionGroup& e) {
            group = &e;  // `error` holds it
        } catch (...) {
        }
        if (group) return add_group(error, *group, entries, indent);
        add_way("Traceback", entries, indent);
        line(indent, describe_exception(error));
    }

  private:
    void line(const std::string& indent, std::string_view what) {
        // A text of several lines stays in its branch.
        for (std::size_t begin = 0; begin <= what.size();) {
            std::size_t end = std::min(what.find('\n', begin), what.size());
            if (!text.empty()) text += '\n';
            text += indent;
            text += what.substr(begin, end - begin);
            begin = end + 1;
        }
    }
    void add_way(std::string_view title, const std::vector<TracebackEntry>& entries,
                 const std::string& indent) {
        if (entries.empty()) return;
        if (!title.empty()) line(indent, fmt::format("{} (most recent call last):", title));
        for (const auto& [frame, thrown_here] : entries)
            line(indent, fmt::format("  File '{}', {}line {}, in {}", frame.file, thrown_here ? "after " : "",
                                     frame.line, frame.function));
    }
    void add_group(const std::exception_ptr& error, const ExceptionGroup& group,
                   const std::vector<TracebackEntry>& entries, const std::string& indent) {
        bool outermost = !indent.ends_with("| ");
        std::string inner = outermost ? indent + "  | " : indent;
        if (!entries.empty())
            line(outermost ? indent + "  + " : inner, "Exception Group Traceback (most recent call last):");
        add_way({}, entries, inner);
        line(inner, describe_exception(error));
        std::string stem = inner.substr(0, inner.size() - 2);
        int number = 0;
        for (const std::exception_ptr& child : group.exceptions()) {
            ++number;
            line(number == 1 ? stem + "+-" : stem + "  ",
                 fmt::format("+---------------- {} ----------------", number));
            add(child, traceback_of(child, nullptr), stem + "  | ");
        }
        line(stem + "  ", "+------------------------------------");
    }
};

std::string format_with(const std::exception_ptr& error, const std::vector<TracebackEntry>& entries) {
    Formatter formatter;
    formatter.add(error, entries, "");
    return std::move(formatter.text);
}

[[maybe_unused]] const bool hooked = [] {
    loop_hooks.format_exception = [](const ExceptionContext& context) {
        return format_with(context.exception, traceback_of(context.exception, context.future_state));
    };
    return true;
}();

}  // namespace

}  // namespace detail

std::vector<TracebackEntry> extract_tb(const std::exception_ptr& error) {
    return detail::traceback_of(error, nullptr);
}

std::string format_exception(const std::exception_ptr& error) {
    return detail::format_with(error, extract_tb(error));
}

void print_exception(const std::exception_ptr& error) { print_exception(error, std::cerr); }
void print_exception(const std::exception_ptr& error, std::ostream& out) {
    out << format_exception(error) << '\n';
}

}  // namespace coil
