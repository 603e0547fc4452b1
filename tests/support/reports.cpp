#include "support/reports.hpp"

#include "coil/futures.hpp"
#include "coil/tasks.hpp"
#include "support/errors.hpp"

namespace support {

void Reports::record(coil::EventLoop& loop) {
    loop.set_exception_handler([this](coil::EventLoop&, const coil::ExceptionContext& context) {
        reports_.push_back({.message = context.message,
                            .error = error_text(context.exception),
                            .details = context.details,
                            .has_handle = static_cast<bool>(context.handle),
                            .has_future = context.future().has_value(),
                            .has_task = context.task().has_value()});
    });
}

std::vector<std::string> Reports::texts() const {
    std::vector<std::string> texts;
    for (const Report& report : reports_) texts.push_back(report.message + ": " + report.error);
    return texts;
}

LogRecorder::LogRecorder() {
    coil::set_log_handler([this](coil::LogLevel level, std::string_view text) {
        std::lock_guard lock(mutex_);
        lines_.push_back({level, std::string(text)});
    });
}

LogRecorder::~LogRecorder() { coil::set_log_handler({}); }

std::vector<LogRecorder::Line> LogRecorder::lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
}

std::size_t LogRecorder::count(std::string_view text) const {
    std::lock_guard lock(mutex_);
    std::size_t found = 0;
    for (const Line& line : lines_) found += line.text.find(text) != std::string::npos;
    return found;
}

std::string LogRecorder::str() const {
    std::lock_guard lock(mutex_);
    std::string all;
    for (const Line& line : lines_) all += line.text + "\n";
    return all;
}

}  // namespace support
