#include "coil/contextvars.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace coil {

namespace detail {

constinit thread_local ThreadState thread_state{};

ContextSlot& thread_context() noexcept {
    static thread_local ContextSlot slot;
    return slot;
}

std::uint64_t next_context_var_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

namespace {

auto position(ContextMap& map, std::uint64_t var) {
    return std::lower_bound(map.entries.begin(), map.entries.end(), var,
                            [](const auto& entry, std::uint64_t id) { return entry.first < id; });
}

/// The slot's map, copied first if other contexts share it.
ContextMap& own_map(ContextSlot& slot) {
    if (!slot.map) {
        slot.map = Ref<ContextMap>(new ContextMap);
    } else if (slot.map->count_.load(std::memory_order_acquire) !=
               1) {  // ORDER: pairs with release() elsewhere
        auto copy = Ref<ContextMap>(new ContextMap);
        copy->entries = slot.map->entries;
        slot.map = std::move(copy);
    }
    return *slot.map;
}

}  // namespace

ContextValue* ContextSlot::find(std::uint64_t var) const noexcept {
    if (!map) return nullptr;
    auto it = position(*map, var);
    return it != map->entries.end() && it->first == var ? it->second.get() : nullptr;
}

void ContextSlot::set(std::uint64_t var, Ref<ContextValue> value) {
    ContextMap& own = own_map(*this);
    auto it = position(own, var);
    if (it != own.entries.end() && it->first == var) {
        it->second = std::move(value);
    } else {
        own.entries.emplace(it, var, std::move(value));
    }
}

void ContextSlot::erase(std::uint64_t var) {
    if (!find(var)) return;
    ContextMap& own = own_map(*this);
    own.entries.erase(position(own, var));
}

}  // namespace detail

Context Context::copy() const {
    Context copy;
    copy.state_->slot->map = state_->slot->map;
    return copy;
}

std::string Context::describe() const {
    return fmt::format("<Context of {} variable{}>", size(), size() == 1 ? "" : "s");
}

std::size_t Context::size() const noexcept {
    return state_->slot->map ? state_->slot->map->entries.size() : 0;
}

Context::Entry::Entry(detail::ContextState& state) : state_(state) {
    if (state.entered)
        throw RuntimeError("cannot enter context: it is already entered; run in a copy() of it");
    state.entered = true;
    scope_.emplace(*state.slot);
}

Context copy_context() {
    Context copy;
    copy.state()->slot->map = detail::current_context().map;
    return copy;
}

}  // namespace coil
