#include "coil/detail/creation_place.hpp"

#include <fmt/format.h>

#include <mutex>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loop/hooks.hpp"

namespace coil::detail {

namespace {

constexpr std::size_t MOST = 10;

struct Line {
    std::source_location at;
    bool passed;  // somewhere behind it, in the coroutine that was running
};

using Place = std::vector<Line>;  // outermost first

/// The handle of a call from another thread may be asked and dropped there.
struct Places {
    std::mutex mutex;
    std::unordered_map<const void*, Place> by_object;

    const Place* find(const void* object) const {
        auto found = by_object.find(object);
        return found == by_object.end() ? nullptr : &found->second;
    }
};

Places& places() {
    static auto* all = new Places;  // outlives all static objects that hold futures
    return *all;
}

Place place_of(const std::source_location& where) {
    Place place;
    for (const std::source_location& line : loop_hooks.running_lines()) place.push_back({line, false});
    if (!place.empty()) place.back().passed = true;
    if (where.line() != 0) {
        std::string_view function = where.function_name();
        if (!place.empty() && function == place.back().at.function_name()) place.pop_back();
        place.push_back({where, false});
    }
    if (place.size() > MOST) place.erase(place.begin(), place.end() - std::ptrdiff_t{MOST});
    return place;
}

}  // namespace

bool keep_creation_place(const void* object, const std::source_location& where) noexcept {
    try {
        Place place = place_of(where);
        if (place.empty()) return false;
        std::lock_guard lock(places().mutex);
        places().by_object.insert_or_assign(object, std::move(place));
        return true;
    } catch (...) {  // no memory
        return false;
    }
}

void forget_creation_place(const void* object) noexcept {
    std::lock_guard lock(places().mutex);
    places().by_object.erase(object);
}

std::string creation_place(const void* object) {
    std::lock_guard lock(places().mutex);
    const Place* place = places().find(object);
    if (!place) return {};
    const auto& [at, passed] = place->back();
    return fmt::format("created {} {}:{}", passed ? "after" : "at", at.file_name(), at.line());
}

std::string creation_trail(const void* object) {
    std::lock_guard lock(places().mutex);
    const Place* place = places().find(object);
    if (!place) return {};
    std::string text;
    for (const auto& [at, passed] : *place)
        text += fmt::format("{}  File '{}', {}line {}, in {}", text.empty() ? "" : "\n", at.file_name(),
                            passed ? "after " : "", at.line(), at.function_name());
    return text;
}

}  // namespace coil::detail
