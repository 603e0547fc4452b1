#pragma once

// asyncio's exceptions, and Python's where asyncio raises those. All that is an error derives from
// `std::exception`; a cancellation and a keyboard interrupt do not, so `catch (const std::exception&)` lets them pass,
// as `except Exception` does in Python.

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace coil {

/// Thrown at the `co_await` where a cancelled task waits. Clean up, then let it pass or rethrow it.
class CancelledError final {
  public:
    CancelledError() noexcept = default;
    explicit CancelledError(std::string_view message);

    /// What was given to `cancel()`; empty without one.
    std::string_view message() const noexcept { return message_ ? std::string_view(*message_) : ""; }

  private:
    std::shared_ptr<const std::string> message_;  // shared: copying an exception object must not throw
};

/// Ctrl-C. Leaves the loop at once when a callback or a task throws it; `run` throws it after a SIGINT.
class KeyboardInterrupt final {};

/// Thrown at the `co_yield` where an asynchronous generator waits when it is closed. Let it pass.
class GeneratorExit final {};

class RuntimeError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// An argument out of range.
class ValueError : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

class TypeError : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

/// A context variable without a value.
class LookupError : public std::out_of_range {
  public:
    using std::out_of_range::out_of_range;
};

/// A future's result was asked for too early, or set twice.
class InvalidStateError : public std::logic_error {
  public:
    using std::logic_error::logic_error;
};

class QueueEmpty : public std::runtime_error {
  public:
    QueueEmpty() : std::runtime_error("queue is empty") {}
};

class QueueFull : public std::runtime_error {
  public:
    QueueFull() : std::runtime_error("queue is full") {}
};

class QueueShutDown : public std::runtime_error {
  public:
    QueueShutDown() : std::runtime_error("queue is shut down") {}
};

class BrokenBarrierError : public RuntimeError {
  public:
    using RuntimeError::RuntimeError;
};

class SendfileNotAvailableError : public RuntimeError {
  public:
    using RuntimeError::RuntimeError;
};

/// An executor that can do nothing more.
class BrokenExecutor : public RuntimeError {
  public:
    using RuntimeError::RuntimeError;
};

/// A thread's initializer has failed.
class BrokenThreadPool : public BrokenExecutor {
  public:
    using BrokenExecutor::BrokenExecutor;
};

/// A worker process ended abruptly.
class BrokenProcessPool : public BrokenExecutor {
  public:
    using BrokenExecutor::BrokenExecutor;
};

/// The stream ended before what was asked for had arrived.
class IncompleteReadError : public std::runtime_error {
  public:
    IncompleteReadError(std::string partial, std::optional<std::size_t> expected);

    const std::string& partial() const noexcept { return *partial_; }
    /// Bytes that were asked for; nothing where a separator was.
    std::optional<std::size_t> expected() const noexcept { return expected_; }

  private:
    std::shared_ptr<const std::string> partial_;
    std::optional<std::size_t> expected_;
};

/// A separator was not found within the stream's limit; the data stay in the stream's buffer.
class LimitOverrunError : public std::runtime_error {
  public:
    LimitOverrunError(const std::string& message, std::size_t consumed)
        : std::runtime_error(message), consumed_(consumed) {}

    /// Bytes that may be read away without losing the beginning of a separator.
    std::size_t consumed() const noexcept { return consumed_; }

  private:
    std::size_t consumed_;
};

/// An error of the operating system. `code().value()` is the errno; `what()` is Python's text:
/// "[Errno 111] Connect call failed ('127.0.0.1', 9)".
class OSError : public std::system_error {
  public:
    /// With an empty text, the system's own text for the errno.
    explicit OSError(int errnum, const std::string& text = {});
    /// An error without an errno: `what()` is the text alone.
    explicit OSError(const std::string& text);

    const char* what() const noexcept override { return text_.what(); }

  protected:
    struct Verbatim {};
    OSError(Verbatim, int errnum, const std::string& text);

  private:
    std::runtime_error text_;  // a string whose copy does not throw
};

class ConnectionError : public OSError {
  public:
    using OSError::OSError;
};
class ConnectionRefusedError : public ConnectionError {
  public:
    using ConnectionError::ConnectionError;
};
class ConnectionResetError : public ConnectionError {
  public:
    using ConnectionError::ConnectionError;
};
class ConnectionAbortedError : public ConnectionError {
  public:
    using ConnectionError::ConnectionError;
};
class BrokenPipeError : public ConnectionError {
  public:
    using ConnectionError::ConnectionError;
};
class FileNotFoundError : public OSError {
  public:
    using OSError::OSError;
};
class FileExistsError : public OSError {
  public:
    using OSError::OSError;
};
class IsADirectoryError : public OSError {
  public:
    using OSError::OSError;
};
class NotADirectoryError : public OSError {
  public:
    using OSError::OSError;
};
class PermissionError : public OSError {
  public:
    using OSError::OSError;
};
class ProcessLookupError : public OSError {
  public:
    using OSError::OSError;
};
class ChildProcessError : public OSError {
  public:
    using OSError::OSError;
};
class BlockingIOError : public OSError {
  public:
    using OSError::OSError;
};
class InterruptedError : public OSError {
  public:
    using OSError::OSError;
};

/// A name that does not resolve. `code().value()` is `getaddrinfo`'s EAI number.
class GaiError : public OSError {
  public:
    explicit GaiError(int eai);
};

/// A time limit has passed. An OSError, as in Python, because the kernel's ETIMEDOUT is one too.
class TimeoutError : public OSError {
  public:
    TimeoutError();
    explicit TimeoutError(const std::string& text);
    explicit TimeoutError(std::exception_ptr cause);

    /// The CancelledError that the time-out turned into this; null where there was none.
    std::exception_ptr cause() const noexcept { return cause_; }

  private:
    std::exception_ptr cause_;
};

/// TLS failed. `what()` is as in Python, without the place in its sources:
/// "[SSL: WRONG_VERSION_NUMBER] wrong version number". There is no errno: `code().value()` is 0.
class SslError : public OSError {
  public:
    explicit SslError(const std::string& text, std::string_view library = {}, std::string_view reason = {});

    /// OpenSSL's, as "SSL", "PEM", "X509", and what it found, as "WRONG_VERSION_NUMBER"; empty where it does not say.
    std::string_view library() const noexcept { return library_ ? std::string_view(*library_) : ""; }
    std::string_view reason() const noexcept { return reason_ ? std::string_view(*reason_) : ""; }

  private:
    std::shared_ptr<const std::string> library_;  // shared: copying an exception object must not throw
    std::shared_ptr<const std::string> reason_;
};

/// The connection ended without the close_notify that ends a TLS stream: what came before may have been cut off.
class SslEofError : public SslError {
  public:
    SslEofError();
};

/// Writing to a TLS connection that is shut down.
class SslZeroReturnError : public SslError {
  public:
    SslZeroReturnError();
};

/// The peer's certificate is not good enough.
class SslCertVerificationError : public SslError {
  public:
    SslCertVerificationError(int verify_code, std::string verify_message);

    /// OpenSSL's X509_V_ERR_ number, and its text or one that names the host: "certificate has expired".
    int verify_code() const noexcept { return verify_code_; }
    const std::string& verify_message() const noexcept { return *verify_message_; }

  private:
    int verify_code_;
    std::shared_ptr<const std::string> verify_message_;
};

/// The subclass of OSError that Python raises for this errno.
std::exception_ptr make_os_error(int errnum, const std::string& text = {});
[[noreturn]] void throw_os_error(int errnum, const std::string& text = {});

/// Several errors at once: what the tasks of a group failed with. May contain other groups.
class ExceptionGroup : public std::exception {
  public:
    /// ValueError if `exceptions` is empty, or one of them null.
    ExceptionGroup(std::string_view message, std::vector<std::exception_ptr> exceptions);

    const char* what() const noexcept override;
    const std::string& message() const noexcept;
    const std::vector<std::exception_ptr>& exceptions() const noexcept;

    /// The members that are an E, and the others; nesting is kept, empty parts are left out.
    template <class E>
    std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>> split() const {
        return split_by([](const std::exception_ptr& e) { return is<E>(e); });
    }
    template <class E>
    std::optional<ExceptionGroup> subgroup() const {
        return split<E>().first;
    }

  private:
    struct Parts;
    using Predicate = bool (*)(const std::exception_ptr&);

    std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>> split_by(Predicate matches) const;

    template <class E>
    static bool is(const std::exception_ptr& e) {
        try {
            std::rethrow_exception(e);
        } catch (const E&) {
            return true;
        } catch (...) {
            return false;
        }
    }

    std::shared_ptr<const Parts> parts_;
};

/// One line for a log: "coil::TimeoutError: …". A demangled type name and `what()`, or the type alone.
std::string describe_exception(const std::exception_ptr& error);

namespace detail {

/// The dynamic type of the exception object, without throwing it. Null for null.
const std::type_info* exception_type(const std::exception_ptr& error) noexcept;
bool is_cancelled_error(const std::exception_ptr& error) noexcept;
/// KeyboardInterrupt: leaves the loop instead of being handled in it.
bool is_interrupt(const std::exception_ptr& error) noexcept;

}  // namespace detail

}  // namespace coil
