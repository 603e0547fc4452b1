#pragma once

// add_reader and add_writer: the table of descriptors with their callbacks.

#include <memory>
#include <unordered_map>

#include "coil/detail/callback.hpp"
#include "coil/detail/loop_core.hpp"
#include "platform/poller.hpp"

namespace coil::detail {

class Descriptors {
  public:
    Descriptors(Poller& poller, ReadyQueue& ready) noexcept : poller_(poller), ready_(ready) {}
    ~Descriptors() { clear(); }

    void set(int fd, bool reader, Ref<CallbackBase> callback);
    bool has(int fd, bool reader) const;
    bool remove(int fd, bool reader);
    void clear() noexcept;

  private:
    struct Entry : Watch {
        Entry(int descriptor, Descriptors& table)
            : Watch(descriptor, Mode::LEVEL, &Entry::queue_callbacks), owner(table) {}
        static void queue_callbacks(Watch& watch);
        std::uint8_t wanted() const noexcept {
            return static_cast<std::uint8_t>((reader ? READABLE : 0) | (writer ? WRITABLE : 0));
        }
        Descriptors& owner;
        Ref<CallbackBase> reader;
        Ref<CallbackBase> writer;
    };
    void queue(CallbackBase& callback) noexcept;

    Poller& poller_;
    ReadyQueue& ready_;
    std::unordered_map<int, std::unique_ptr<Entry>> entries_;
};

/// A transport begins, or ends, to own this descriptor.
void own_descriptor(LoopCore& core, int fd, bool owned);
/// RuntimeError if a transport owns it.
void check_descriptor_is_free(const LoopCore& core, int fd);

}  // namespace coil::detail
