#include "coil/exceptions.hpp"

#include <gtest/gtest.h>
#include <netdb.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

#include "support/errors.hpp"

using namespace coil;
using support::error_text;
using support::thrown_by;

namespace {

template <class E>
std::exception_ptr ptr(E error) {
    return std::make_exception_ptr(std::move(error));
}

/// "message[A: a, B: b]", nested groups likewise.
std::string text_of(const ExceptionGroup& group) {
    std::string text = group.message() + "[";
    for (const auto& member : group.exceptions()) {
        if (text.back() != '[') text += ", ";
        try {
            std::rethrow_exception(member);
        } catch (const ExceptionGroup& nested) {
            text += text_of(nested);
        } catch (...) {
            text += error_text(member);
        }
    }
    return text + "]";
}
std::string text_of(const std::optional<ExceptionGroup>& group) { return group ? text_of(*group) : "none"; }

}  // namespace

TEST(Exceptions, a_cancellation_is_no_std_exception) {
    static_assert(!std::is_base_of_v<std::exception, CancelledError>);
    static_assert(!std::is_base_of_v<std::exception, KeyboardInterrupt>);
    static_assert(!std::is_base_of_v<std::exception, GeneratorExit>);
    EXPECT_EQ(CancelledError().message(), "");
    EXPECT_EQ(CancelledError("why").message(), "why");
    static_assert(std::is_nothrow_copy_constructible_v<CancelledError>);
}

TEST(Exceptions, families_are_pythons) {
    static_assert(std::is_base_of_v<std::runtime_error, RuntimeError>);
    static_assert(std::is_base_of_v<std::invalid_argument, ValueError>);
    static_assert(std::is_base_of_v<std::exception, InvalidStateError>);
    static_assert(std::is_base_of_v<RuntimeError, BrokenBarrierError>);
    static_assert(std::is_base_of_v<RuntimeError, SendfileNotAvailableError>);
    static_assert(std::is_base_of_v<std::system_error, OSError>);
    static_assert(std::is_base_of_v<OSError, TimeoutError>);
    static_assert(std::is_base_of_v<OSError, GaiError>);
    static_assert(std::is_base_of_v<ConnectionError, ConnectionRefusedError>);
    static_assert(std::is_base_of_v<ConnectionError, BrokenPipeError>);
}

TEST(Exceptions, an_errno_becomes_pythons_subclass) {
    struct Row {
        int errnum;
        const char* text;
    };
    const Row rows[] = {
        {ECONNREFUSED, "ConnectionRefusedError: [Errno 111] Connection refused"},
        {ECONNRESET, "ConnectionResetError: [Errno 104] Connection reset by peer"},
        {ECONNABORTED, "ConnectionAbortedError: [Errno 103] Software caused connection abort"},
        {EPIPE, "BrokenPipeError: [Errno 32] Broken pipe"},
        {ESHUTDOWN, "BrokenPipeError: [Errno 108] Cannot send after transport endpoint shutdown"},
        {ENOENT, "FileNotFoundError: [Errno 2] No such file or directory"},
        {EEXIST, "FileExistsError: [Errno 17] File exists"},
        {EISDIR, "IsADirectoryError: [Errno 21] Is a directory"},
        {ENOTDIR, "NotADirectoryError: [Errno 20] Not a directory"},
        {EACCES, "PermissionError: [Errno 13] Permission denied"},
        {EPERM, "PermissionError: [Errno 1] Operation not permitted"},
        {ESRCH, "ProcessLookupError: [Errno 3] No such process"},
        {ECHILD, "ChildProcessError: [Errno 10] No child processes"},
        {EAGAIN, "BlockingIOError: [Errno 11] Resource temporarily unavailable"},
        {EALREADY, "BlockingIOError: [Errno 114] Operation already in progress"},
        {EINPROGRESS, "BlockingIOError: [Errno 115] Operation now in progress"},
        {EINTR, "InterruptedError: [Errno 4] Interrupted system call"},
        {ETIMEDOUT, "TimeoutError: [Errno 110] Connection timed out"},
        {EBADF, "OSError: [Errno 9] Bad file descriptor"},
        {ENOSYS, "OSError: [Errno 38] Function not implemented"},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(error_text(make_os_error(row.errnum)), row.text);
        try {
            throw_os_error(row.errnum);
        } catch (const OSError& e) {
            EXPECT_EQ(e.code().value(), row.errnum);
            EXPECT_EQ(e.code(), std::error_code(row.errnum, std::generic_category()));
        }
    }
    EXPECT_EQ(error_text(make_os_error(ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)")),
              "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 9)");
}

TEST(Exceptions, texts_are_asyncios) {
    EXPECT_EQ(std::string(IncompleteReadError("abc", 10).what()),
              "3 bytes read on a total of 10 expected bytes");
    EXPECT_EQ(std::string(IncompleteReadError("abc", std::nullopt).what()),
              "3 bytes read on a total of undefined expected bytes");
    IncompleteReadError incomplete(std::string("a\0b", 3), 5);
    EXPECT_EQ(incomplete.partial().size(), 3u);
    EXPECT_EQ(incomplete.expected(), 5u);
    LimitOverrunError overrun("too long", 77);
    EXPECT_EQ(overrun.consumed(), 77u);
    EXPECT_EQ(std::string(OSError("plain text").what()), "plain text");
    GaiError gai(EAI_NONAME);
    EXPECT_EQ(gai.code().value(), EAI_NONAME);
    EXPECT_EQ(std::string(gai.what()), "[Errno -2] Name or service not known");
    EXPECT_EQ(TimeoutError().cause(), nullptr);
    EXPECT_EQ(error_text(TimeoutError(ptr(CancelledError("c"))).cause()), "CancelledError: c");
}

TEST(Exceptions, describe_exception_gives_type_and_text) {
    EXPECT_EQ(describe_exception(ptr(ValueError("v"))), "coil::ValueError: v");
    EXPECT_EQ(describe_exception(ptr(CancelledError("c"))), "coil::CancelledError: c");
    EXPECT_EQ(describe_exception(ptr(CancelledError())), "coil::CancelledError");
    EXPECT_EQ(describe_exception(ptr(5)), "int");
    EXPECT_EQ(describe_exception(nullptr), "no exception");
}

TEST(Exceptions, what_an_exception_is_can_be_asked_without_throwing) {
    EXPECT_TRUE(detail::is_cancelled_error(ptr(CancelledError())));
    EXPECT_FALSE(detail::is_cancelled_error(ptr(ValueError("v"))));
    EXPECT_FALSE(detail::is_cancelled_error(nullptr));
    EXPECT_TRUE(detail::is_interrupt(ptr(KeyboardInterrupt())));
    EXPECT_FALSE(detail::is_interrupt(ptr(CancelledError())));
    EXPECT_EQ(*detail::exception_type(ptr(5)), typeid(int));
    EXPECT_EQ(detail::exception_type(nullptr), nullptr);
}

TEST(ExceptionGroup, counts_its_members_in_its_text) {
    EXPECT_EQ(std::string(ExceptionGroup("m", {ptr(1)}).what()), "m (1 sub-exception)");
    ExceptionGroup two("m", {ptr(ValueError("a")), ptr(TypeError("b"))});
    EXPECT_EQ(std::string(two.what()), "m (2 sub-exceptions)");
    EXPECT_EQ(two.message(), "m");
    EXPECT_EQ(text_of(two), "m[ValueError: a, TypeError: b]");
    EXPECT_EQ(thrown_by([] { ExceptionGroup("m", {}); }).substr(0, 10), "ValueError");
    EXPECT_EQ(thrown_by([] { ExceptionGroup("m", {ptr(1), nullptr}); }),
              "ValueError: item 1 of an ExceptionGroup's exceptions is null");
}

TEST(ExceptionGroup, splits_by_type_and_keeps_nesting_and_order) {
    // >>> eg = ExceptionGroup("m", [ValueError("1"), ExceptionGroup("n", [TypeError("2"), ValueError("3"),
    // ...      ExceptionGroup("o", [TypeError("4")])]), TypeError("5")]); eg.split(ValueError)
    ExceptionGroup o("o", {ptr(TypeError("4"))});
    ExceptionGroup n("n", {ptr(TypeError("2")), ptr(ValueError("3")), ptr(o)});
    ExceptionGroup m("m", {ptr(ValueError("1")), ptr(n), ptr(TypeError("5"))});
    auto [values, rest] = m.split<ValueError>();
    EXPECT_EQ(text_of(values), "m[ValueError: 1, n[ValueError: 3]]");
    EXPECT_EQ(text_of(rest), "m[n[TypeError: 2, o[TypeError: 4]], TypeError: 5]");
    EXPECT_EQ(text_of(m.subgroup<TypeError>()), "m[n[TypeError: 2, o[TypeError: 4]], TypeError: 5]");
    EXPECT_EQ(text_of(m.subgroup<std::invalid_argument>()), text_of(m));
    EXPECT_EQ(text_of(m.split<std::exception>().second), "none");
    EXPECT_EQ(text_of(m.subgroup<OSError>()), "none");
    EXPECT_EQ(text_of(m.split<OSError>().second), text_of(m));
    EXPECT_EQ(text_of(m), "m[ValueError: 1, n[TypeError: 2, ValueError: 3, o[TypeError: 4]], TypeError: 5]");
}

TEST(ExceptionGroup, a_match_of_the_whole_group_is_the_whole_group) {
    ExceptionGroup inner("inner", {ptr(ValueError("1"))});
    ExceptionGroup outer("outer", {ptr(inner), ptr(TypeError("2"))});
    auto [groups, rest] = outer.split<ExceptionGroup>();
    EXPECT_EQ(text_of(groups), "outer[inner[ValueError: 1], TypeError: 2]");
    EXPECT_EQ(text_of(rest), "none");
}

TEST(ExceptionGroup, keeps_the_identity_of_its_members) {
    auto member = ptr(ValueError("1"));
    ExceptionGroup group("m", {member, ptr(5)});
    EXPECT_EQ(group.subgroup<ValueError>()->exceptions()[0], member);
}
