#include "io/fd_wait.hpp"

#include <fmt/format.h>

#include "base/inspection.hpp"
#include "loop/descriptors.hpp"

namespace coil::detail {

void FdWait::watch() {
    LoopCore& core = loop_.core();
    bool reading = direction_ == For::READING;
    if (core.descriptors && core.descriptors->has(fd_, reading)) {
        throw RuntimeError(fmt::format("{}: another task or callback waits already to {} descriptor {}",
                                       description_, reading ? "read from" : "write to", fd_));
    }
    auto ready = [this] {
        stop();
        wake();
    };
    if (reading) {
        loop_.add_reader(fd_, ready);
    } else {
        loop_.add_writer(fd_, ready);
    }
}

void FdWait::stop() noexcept {
    if (loop_.is_closed()) return;
    if (direction_ == For::READING) {
        loop_.remove_reader(fd_);
    } else {
        loop_.remove_writer(fd_);
    }
}

template <>
struct LayoutOf<FdWait> {
    static constexpr InspectionPath description = {offsetof(FdWait, description_)};
    static constexpr InspectionPath descriptor = {offsetof(FdWait, fd_)};
};
COIL_INSPECTION_ROWS(fd_wait) = {
    {"coil::detail::FdWait", "", InspectionKind::TEXT, LayoutOf<FdWait>::description},
    {"coil::detail::FdWait", "on descriptor", InspectionKind::DESCRIPTOR, LayoutOf<FdWait>::descriptor},
};

std::string FdWait::describe() const { return fmt::format("{} on descriptor {}", description_, fd_); }

}  // namespace coil::detail
