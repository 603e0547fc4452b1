#pragma once

// The memory of another process, or of one that has left a core file.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace coil::tools {

using Address = std::uint64_t;

/// What a user is told, without more.
class Failure : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Nothing is there, or what is there makes no sense: the process may have changed it meanwhile.
class Unreadable : public Failure {
  public:
    using Failure::Failure;
};

class Memory {
  public:
    Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    virtual ~Memory() = default;

    struct Section {
        Address address;
        std::size_t size;
    };
    /// Of the program and its libraries.
    virtual std::vector<Section> sections(const char* name) const = 0;
    /// "process 123", "core file 'x'": for messages.
    virtual std::string describe() const = 0;

    void read(Address address, std::span<std::byte> target) const;
    template <class T>
    T get(Address address) const {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        read(address, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    Address pointer(Address address) const { return get<Address>(address); }
    /// A C string.
    std::string text(Address address) const;
    std::string text(Address address, std::size_t size) const;
    /// Forgets what it has read: the process has gone on.
    void forget() noexcept { pages_.clear(); }

  protected:
    static constexpr std::size_t PAGE = 4096;
    using Page = std::vector<std::byte>;
    /// Throws Unreadable.
    virtual void read_page(Address address, Page& page) const = 0;

  private:
    const Page& page(Address address) const;

    // A snapshot of thousands of tasks looks at the same pages again and again.
    mutable std::unordered_map<Address, Page> pages_;
};

/// Stops the process's threads while it lives. Failure if that is not permitted.
class StoppedProcess {
  public:
    explicit StoppedProcess(pid_t pid);
    StoppedProcess(const StoppedProcess&) = delete;
    StoppedProcess& operator=(const StoppedProcess&) = delete;
    ~StoppedProcess();

  private:
    bool stop_new_threads();
    void let_go() noexcept;

    struct Thread {
        pid_t number;
        long signal = 0;
    };
    pid_t pid_;
    std::vector<Thread> threads_;
};

/// Failure if there is no such process, or it may not be read.
std::unique_ptr<Memory> memory_of_process(pid_t pid);
/// Failure if it is no core file of this machine's kind.
std::unique_ptr<Memory> memory_of_core(const std::string& path);

}  // namespace coil::tools
