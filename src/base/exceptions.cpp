#include "coil/exceptions.hpp"

#include <fmt/format.h>
#include <netdb.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <typeinfo>

#include "base/type_name.hpp"

namespace coil {

CancelledError::CancelledError(std::string_view message)
    : message_(message.empty() ? nullptr : std::make_shared<const std::string>(message)) {}

namespace {

std::string incomplete_text(std::size_t got, std::optional<std::size_t> expected) {
    return fmt::format("{} bytes read on a total of {} expected bytes", got,
                       expected ? std::to_string(*expected) : "undefined");
}

std::string os_error_text(int errnum, const std::string& text) {
    return fmt::format("[Errno {}] {}", errnum,
                       text.empty() ? std::generic_category().message(errnum) : text);
}

}  // namespace

IncompleteReadError::IncompleteReadError(std::string partial, std::optional<std::size_t> expected)
    : std::runtime_error(incomplete_text(partial.size(), expected)),
      partial_(std::make_shared<const std::string>(std::move(partial))),
      expected_(expected) {}

OSError::OSError(int errnum, const std::string& text)
    : std::system_error(errnum, std::generic_category()), text_(os_error_text(errnum, text)) {}
OSError::OSError(const std::string& text) : OSError(Verbatim{}, 0, text) {}
OSError::OSError(Verbatim, int errnum, const std::string& text)
    : std::system_error(errnum, std::generic_category()), text_(text) {}

GaiError::GaiError(int eai)
    : OSError(Verbatim{}, eai, fmt::format("[Errno {}] {}", eai, gai_strerror(eai))) {}

TimeoutError::TimeoutError() : TimeoutError(std::string("timed out")) {}
TimeoutError::TimeoutError(const std::string& text) : OSError(Verbatim{}, ETIMEDOUT, text) {}
TimeoutError::TimeoutError(std::exception_ptr cause) : TimeoutError() { cause_ = std::move(cause); }

namespace {

std::shared_ptr<const std::string> shared_text(std::string_view text) {
    return text.empty() ? nullptr : std::make_shared<const std::string>(text);
}

}  // namespace

SslError::SslError(const std::string& text, std::string_view library, std::string_view reason)
    : OSError(Verbatim{}, 0, text), library_(shared_text(library)), reason_(shared_text(reason)) {}

SslEofError::SslEofError()
    : SslError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", "SSL",
               "UNEXPECTED_EOF_WHILE_READING") {}

SslZeroReturnError::SslZeroReturnError() : SslError("TLS/SSL connection has been closed (EOF)") {}

SslCertVerificationError::SslCertVerificationError(int verify_code, std::string verify_message)
    : SslError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: " + verify_message, "SSL",
               "CERTIFICATE_VERIFY_FAILED"),
      verify_code_(verify_code),
      verify_message_(std::make_shared<const std::string>(std::move(verify_message))) {}

std::exception_ptr make_os_error(int errnum, const std::string& text) {
    switch (errnum) {
        case ECONNREFUSED:
            return std::make_exception_ptr(ConnectionRefusedError(errnum, text));
        case ECONNRESET:
            return std::make_exception_ptr(ConnectionResetError(errnum, text));
        case ECONNABORTED:
            return std::make_exception_ptr(ConnectionAbortedError(errnum, text));
        case EPIPE:
        case ESHUTDOWN:
            return std::make_exception_ptr(BrokenPipeError(errnum, text));
        case ENOENT:
            return std::make_exception_ptr(FileNotFoundError(errnum, text));
        case EEXIST:
            return std::make_exception_ptr(FileExistsError(errnum, text));
        case EISDIR:
            return std::make_exception_ptr(IsADirectoryError(errnum, text));
        case ENOTDIR:
            return std::make_exception_ptr(NotADirectoryError(errnum, text));
        case EACCES:
        case EPERM:
            return std::make_exception_ptr(PermissionError(errnum, text));
        case ESRCH:
            return std::make_exception_ptr(ProcessLookupError(errnum, text));
        case ECHILD:
            return std::make_exception_ptr(ChildProcessError(errnum, text));
        case EAGAIN:
        case EALREADY:
        case EINPROGRESS:
            return std::make_exception_ptr(BlockingIOError(errnum, text));
        case EINTR:
            return std::make_exception_ptr(InterruptedError(errnum, text));
        case ETIMEDOUT:
            return std::make_exception_ptr(TimeoutError(os_error_text(errnum, text)));
        default:
            return std::make_exception_ptr(OSError(errnum, text));
    }
}

void throw_os_error(int errnum, const std::string& text) {
    std::rethrow_exception(make_os_error(errnum, text));
}

struct ExceptionGroup::Parts {
    std::string message;
    std::string what;
    std::vector<std::exception_ptr> exceptions;
};

ExceptionGroup::ExceptionGroup(std::string_view message, std::vector<std::exception_ptr> exceptions) {
    if (exceptions.empty()) throw ValueError("an ExceptionGroup needs at least one exception");
    for (std::size_t i = 0; i < exceptions.size(); ++i) {
        if (!exceptions[i])
            throw ValueError(fmt::format("item {} of an ExceptionGroup's exceptions is null", i));
    }
    auto parts = std::make_shared<Parts>();
    parts->message = message;
    parts->what =
        fmt::format("{} ({} sub-exception{})", message, exceptions.size(), exceptions.size() == 1 ? "" : "s");
    parts->exceptions = std::move(exceptions);
    parts_ = std::move(parts);
}

const char* ExceptionGroup::what() const noexcept { return parts_->what.c_str(); }
const std::string& ExceptionGroup::message() const noexcept { return parts_->message; }
const std::vector<std::exception_ptr>& ExceptionGroup::exceptions() const noexcept {
    return parts_->exceptions;
}

std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>> ExceptionGroup::split_by(
    Predicate matches) const {
    if (matches(std::make_exception_ptr(*this))) return {*this, std::nullopt};
    std::vector<std::exception_ptr> with, without;
    for (const std::exception_ptr& member : exceptions()) {
        if (matches(member)) {
            with.push_back(member);
            continue;
        }
        try {
            std::rethrow_exception(member);
        } catch (const ExceptionGroup& group) {
            auto [inner_with, inner_without] = group.split_by(matches);
            if (inner_with) with.push_back(std::make_exception_ptr(*inner_with));
            if (inner_without) without.push_back(std::make_exception_ptr(*inner_without));
        } catch (...) {
            without.push_back(member);
        }
    }
    auto group = [&](std::vector<std::exception_ptr>& members) -> std::optional<ExceptionGroup> {
        if (members.empty()) return std::nullopt;
        return ExceptionGroup(message(), std::move(members));
    };
    return {group(with), group(without)};
}

std::string describe_exception(const std::exception_ptr& error) {
    if (!error) return "no exception";
    const std::type_info* type = detail::exception_type(error);
    std::string name = type ? detail::type_name(*type) : "exception";
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return name + ": " + e.what();
    } catch (const CancelledError& e) {
        return e.message().empty() ? name : name + ": " + std::string(e.message());
    } catch (...) {
        return name;
    }
}

namespace detail {

const std::type_info* exception_type(const std::exception_ptr& error) noexcept {
    return error ? error.__cxa_exception_type() : nullptr;
}
bool is_cancelled_error(const std::exception_ptr& error) noexcept {
    return error && *error.__cxa_exception_type() == typeid(CancelledError);
}
bool is_interrupt(const std::exception_ptr& error) noexcept {
    return error && *error.__cxa_exception_type() == typeid(KeyboardInterrupt);
}

}  // namespace detail

}  // namespace coil
