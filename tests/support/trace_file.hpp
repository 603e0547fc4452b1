#pragma once

// A place for a trace, and what was written there.

#include <stdlib.h>

#include <cerrno>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "coil/exceptions.hpp"

namespace support {

inline std::string read_text(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

/// In a directory of its own, which goes at the end of the scope.
class TraceFile {
  public:
    TraceFile() : directory_(std::filesystem::temp_directory_path() / "coil-trace-XXXXXX") {
        if (!::mkdtemp(directory_.data())) coil::throw_os_error(errno, directory_);
    }
    ~TraceFile() { std::filesystem::remove_all(directory_); }
    TraceFile(const TraceFile&) = delete;
    TraceFile& operator=(const TraceFile&) = delete;

    std::string path() const { return directory_ + "/trace.json"; }
    std::string text() const { return read_text(path()); }

  private:
    std::string directory_;
};

/// The events of a trace that has ended.
class Trace {
  public:
    using Event = nlohmann::json;

    explicit Trace(const std::string& text) : events_(Event::parse(text)) {}
    explicit Trace(const TraceFile& file) : Trace(file.text()) {}

    const Event& all() const noexcept { return events_; }
    /// Those with these values of fields, in the order of the file: `find({{"ph", "X"}, {"name", "poll"}})`.
    std::vector<Event> find(const Event& fields) const {
        std::vector<Event> found;
        for (const Event& event : events_) {
            bool same = true;
            for (const auto& [key, value] : fields.items()) same = same && event.value(key, Event()) == value;
            if (same) found.push_back(event);
        }
        return found;
    }
    /// The only one of them, else null.
    Event one(const Event& fields) const {
        auto found = find(fields);
        return found.size() == 1 ? found[0] : Event();
    }
    /// The number of the task's track; -1: it has none.
    int track(std::string_view task) const {
        Event named = one({{"name", "thread_name"}, {"args", {{"name", task}}}});
        return named.is_null() ? -1 : named["tid"].get<int>();
    }
    /// A task's steps, or its waits.
    std::vector<Event> runs(std::string_view task) const {
        return find({{"cat", "run"}, {"tid", track(task)}});
    }
    std::vector<Event> waits(std::string_view task) const {
        return find({{"cat", "wait"}, {"tid", track(task)}});
    }

  private:
    Event events_;
};

inline double began(const Trace::Event& slice) { return slice["ts"].get<double>(); }
inline double ended(const Trace::Event& slice) { return began(slice) + slice["dur"].get<double>(); }

/// Keeps the thread busy; sleeping would be as good, but is no work.
inline void spin(std::chrono::nanoseconds time) {
    auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
    }
}

}  // namespace support
