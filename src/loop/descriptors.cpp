#include "loop/descriptors.hpp"

#include <string>

#include "coil/events.hpp"

namespace coil {

namespace detail {

void Descriptors::Entry::queue_callbacks(Watch& watch) {
    auto& entry = static_cast<Entry&>(watch);
    std::uint8_t ready = std::exchange(entry.ready, std::uint8_t{0});
    if ((ready & READABLE) && entry.reader) entry.owner.queue(*entry.reader);
    if ((ready & WRITABLE) && entry.writer) entry.owner.queue(*entry.writer);
}

void Descriptors::queue(CallbackBase& callback) noexcept {
    if (callback.queued_) return;  // the batch before was left by an interrupt: it still waits there
    callback.queued_ = true;
    callback.retain();
    ready_.push(callback);
}

void Descriptors::set(int fd, bool reader, Ref<CallbackBase> callback) {
    auto found = entries_.find(fd);
    if (found == entries_.end()) {
        auto entry = std::make_unique<Entry>(fd, *this);
        (reader ? entry->reader : entry->writer) = std::move(callback);
        entry->interest = entry->wanted();
        poller_.add(*entry);
        entries_.emplace(fd, std::move(entry));
        return;
    }
    Entry& entry = *found->second;
    Ref<CallbackBase>& place = reader ? entry.reader : entry.writer;
    if (place) place->cancel();
    place = std::move(callback);
    if (entry.wanted() != entry.interest) poller_.set_interest(entry, entry.wanted());
}

bool Descriptors::has(int fd, bool reader) const {
    auto found = entries_.find(fd);
    return found != entries_.end() && (reader ? found->second->reader : found->second->writer);
}

bool Descriptors::remove(int fd, bool reader) {
    auto found = entries_.find(fd);
    if (found == entries_.end()) return false;
    Entry& entry = *found->second;
    Ref<CallbackBase>& place = reader ? entry.reader : entry.writer;
    if (!place) return false;
    place->cancel();
    place = nullptr;
    if (entry.wanted() == 0) {
        poller_.remove(entry);
        entries_.erase(found);
    } else {
        poller_.set_interest(entry, entry.wanted());
    }
    return true;
}

void Descriptors::clear() noexcept {
    for (auto& [fd, entry] : entries_) poller_.remove(*entry);
    entries_.clear();
}

void own_descriptor(LoopCore& core, int fd, bool owned) {
    auto index = static_cast<std::size_t>(fd);
    if (index >= core.transport_fds.size()) {
        if (!owned) return;
        core.transport_fds.resize(index + 1);
    }
    core.transport_fds[index] = owned;
}

void check_descriptor_is_free(const LoopCore& core, int fd) {
    if (fd < 0) throw ValueError("a file descriptor is not negative");
    auto index = static_cast<std::size_t>(fd);
    if (index < core.transport_fds.size() && core.transport_fds[index])
        throw RuntimeError("File descriptor " + std::to_string(fd) + " is used by a transport");
}

}  // namespace detail

void EventLoop::watch(int fd, bool reader, detail::Ref<detail::CallbackBase> callback) {
    detail::check_descriptor_is_free(core_, fd);
    if (core_.debug) callback->keep_creation_place();
    if (!core_.descriptors)
        core_.descriptors = std::make_unique<detail::Descriptors>(*core_.poller, core_.ready);
    core_.descriptors->set(fd, reader, std::move(callback));
}

bool EventLoop::unwatch(int fd, bool reader) {
    if (is_closed() || !core_.descriptors) return false;
    return core_.descriptors->remove(fd, reader);
}

bool EventLoop::remove_reader(FileDescriptor fd) { return unwatch(fd.fileno(), true); }
bool EventLoop::remove_writer(FileDescriptor fd) { return unwatch(fd.fileno(), false); }

}  // namespace coil
