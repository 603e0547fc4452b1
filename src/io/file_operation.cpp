#include "io/file_operation.hpp"

#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/inspection.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"

namespace coil::detail {

void Descriptor::close() noexcept {
    if (fd >= 0) ::close(std::exchange(fd, -1));
}

FileOperation::FileOperation(Kind what, std::string name, std::shared_ptr<Descriptor> of)
    : KernelOp(what, &FileOperation::finished),
      loop_(get_running_loop().core()),
      name_(std::move(name)),
      descriptor_(std::move(of)),
      by_kernel_(loop_.poller->supports(what)) {
    if (descriptor_) fd = descriptor_->fd;
}

FileOperation::~FileOperation() {
    if (kind == Kind::OPEN && result >= 0) ::close(static_cast<int>(result));  // nobody took it
    if (kind == Kind::CLOSE && (result == UNFINISHED || result == -ECANCELED)) ::close(fd);
}

std::int64_t FileOperation::take_result(const std::string& subject) {
    if (result < 0) {
        auto error = static_cast<int>(-result);
        if (subject.empty()) throw_os_error(error);
        throw_os_error(error, std::generic_category().message(error) + ": " + subject);
    }
    return kind == Kind::OPEN ? std::exchange(result, UNFINISHED) : result;
}

void FileOperation::start(const std::shared_ptr<FileOperation>& operation) {
    operation->result = UNFINISHED;
    if (operation->by_kernel_) {
        keep(operation);
        operation->loop_.poller->start(*operation);
    } else {
        submit(operation, *thread_state.loop);
    }
}

bool FileOperation::take_back() noexcept {
    if (by_kernel_) {
        if (!loop_.poller->cancel(*this)) return false;
        auto no_longer_held = stop_keeping();
        return true;
    }
    bool is_over = call_off() || kind == Kind::OPEN;
    if (is_over) forget();
    return is_over;
}

void FileOperation::finished(Watch& watch) {
    auto& operation = static_cast<FileOperation&>(watch);
    operation.loop_.ready.push(operation);
}

void FileOperation::arrived() {
    if (waiter_) waiter_->over();
}

template <>
struct LayoutOf<FileOperation> {
    static constexpr std::size_t name = offsetof(FileOperation, name_);
};
template <>
struct LayoutOf<FileWait> {
    static constexpr InspectionPath name = {offsetof(FileWait, operation_), LayoutOf<FileOperation>::name};
};
COIL_INSPECTION_ROWS(file_wait) = {
    {"coil::detail::FileWait", "", InspectionKind::STRING, LayoutOf<FileWait>::name},
};

FileWait::~FileWait() {
    if (over_) return;
    operation_->waiter_ = nullptr;
    operation_->take_back();
}

void FileWait::over() noexcept {
    over_ = true;
    operation_->waiter_ = nullptr;
    if (task_) task_->wake();
}

bool FileWait::cancel_wait(std::string_view message) {
    if (over_) return false;
    task_->set_wait_error(message);
    if (std::exchange(cancelled_, true)) return true;
    if (operation_->kind != KernelOp::Kind::CLOSE && operation_->take_back()) over();
    return true;
}

void FileWait::await_resume() {
    if (task_->take_cancellation()) task_->throw_cancellation();
    if (cancelled_) task_->throw_wait_error();
}

}  // namespace coil::detail
