#pragma once

// Recorders: what a loop's exception handler and the log were told.

#include <mutex>
#include <string>
#include <vector>

#include "coil/events.hpp"
#include "coil/log.hpp"

namespace support {

/// Takes the place of a loop's exception handler, for the loop's whole life or until it is destroyed itself.
class Reports {
  public:
    struct Report {
        std::string message;
        std::string error;  // as error_text() has it
        coil::ExceptionDetails details;
        bool has_handle = false;
        bool has_future = false;
        bool has_task = false;
    };

    Reports() = default;
    explicit Reports(coil::EventLoop& loop) { record(loop); }
    Reports(const Reports&) = delete;
    Reports& operator=(const Reports&) = delete;

    /// The recorder must outlive the loop.
    void record(coil::EventLoop& loop);
    const std::vector<Report>& all() const noexcept { return reports_; }
    std::size_t size() const noexcept { return reports_.size(); }
    bool empty() const noexcept { return reports_.empty(); }
    const Report& operator[](std::size_t i) const { return reports_.at(i); }
    /// "message: error" of each.
    std::vector<std::string> texts() const;
    void clear() { reports_.clear(); }

  private:
    std::vector<Report> reports_;
};

/// Takes the place of the process's log handler while it lives.
class LogRecorder {
  public:
    struct Line {
        coil::LogLevel level;
        std::string text;
    };

    LogRecorder();
    ~LogRecorder();
    LogRecorder(const LogRecorder&) = delete;
    LogRecorder& operator=(const LogRecorder&) = delete;

    std::vector<Line> lines() const;
    /// How many lines contain the text.
    std::size_t count(std::string_view text) const;
    /// All lines, for a message.
    std::string str() const;

  private:
    mutable std::mutex mutex_;
    std::vector<Line> lines_;
};

}  // namespace support
