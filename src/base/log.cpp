#include "coil/log.hpp"

#include <cstdio>
#include <mutex>
#include <utility>

namespace coil {

namespace {

std::mutex handler_mutex;
LogHandler current_handler;

void write_to_stderr(LogLevel level, std::string_view text) {
    if (level < LogLevel::WARNING) return;  // as Python's handler of last resort
    static constexpr const char* NAMES[] = {"warning", "error", "critical"};
    std::fprintf(stderr, "coil %s: %.*s\n",
                 NAMES[static_cast<int>(level) - static_cast<int>(LogLevel::WARNING)],
                 static_cast<int>(text.size()), text.data());
}

}  // namespace

void set_log_handler(LogHandler handler) {
    std::lock_guard lock(handler_mutex);
    std::swap(current_handler, handler);  // the one before goes without the mutex
}

void log(LogLevel level, std::string_view text) noexcept {
    try {
        LogHandler handler;
        {
            std::lock_guard lock(handler_mutex);
            handler = current_handler;
        }
        if (handler) {
            handler(level, text);
        } else {
            write_to_stderr(level, text);
        }
    } catch (...) {  // there is nobody left to tell
    }
}

}  // namespace coil
