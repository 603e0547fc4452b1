#include "coil/log.hpp"

#include <cstdio>
#include <memory>
#include <mutex>

namespace coil {

namespace {

std::mutex handler_mutex;
std::shared_ptr<const LogHandler> current_handler;

void write_to_stderr(LogLevel level, std::string_view text) {
    if (level < LogLevel::WARNING) return;  // as Python's handler of last resort
    static constexpr const char* NAMES[] = {"warning", "error", "critical"};
    std::fprintf(stderr, "coil %s: %.*s\n",
                 NAMES[static_cast<int>(level) - static_cast<int>(LogLevel::WARNING)],
                 static_cast<int>(text.size()), text.data());
}

}  // namespace

void set_log_handler(LogHandler handler) {
    auto shared = handler ? std::make_shared<const LogHandler>(std::move(handler)) : nullptr;
    std::lock_guard lock(handler_mutex);
    current_handler.swap(shared);
}

void log(LogLevel level, std::string_view text) noexcept {
    try {
        std::shared_ptr<const LogHandler> handler;
        {
            std::lock_guard lock(handler_mutex);
            handler = current_handler;
        }
        if (handler) {
            (*handler)(level, text);
        } else {
            write_to_stderr(level, text);
        }
    } catch (...) {  // there is nobody left to tell
    }
}

}  // namespace coil
