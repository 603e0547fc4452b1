#include "coil/files.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "coil/coil.hpp"
#include "coil/testing/virtual_loop.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"
#include "support/child.hpp"
#include "support/errors.hpp"
#include "support/reports.hpp"
#include "support/run.hpp"

using namespace coil;
using namespace std::chrono_literals;
using support::thrown_by;
using support::thrown_by_await;

namespace {

std::string repeated(std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>('a' + i * 7 % 23);
    return data;
}

/// A folder for the test, and a loop: of a backend, or on virtual time, where all goes through threads.
class FileTest : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (std::string(GetParam()) == "uring" && !support::uring_available())
            GTEST_SKIP() << "no io_uring here";
        std::string pattern = std::filesystem::temp_directory_path() / "coil_files_XXXXXX";
        if (!::mkdtemp(pattern.data())) std::abort();
        folder_ = pattern;
        fds_ = support::open_fds();
    }
    void TearDown() override {
        if (folder_.empty()) return;
        // Of a loop that was closed while a thread opened or closed something, the thread may still be at it.
        for (int i = 0; i < 100'000 && support::open_fds() != fds_; ++i) std::this_thread::yield();
        EXPECT_EQ(support::open_fds(), fds_);
        std::filesystem::remove_all(folder_);
    }

    LoopFactory factory() const {
        std::string name = GetParam();
        return name == "uring" ? uring_loop : name == "epoll" ? epoll_loop : coil::testing::virtual_loop;
    }
    template <class T>
    T run(Coro<T> coro) {
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
    std::string path(const char* name) const { return folder_ + "/" + name; }
    std::string make(const char* name, const std::string& data) const {
        std::ofstream(path(name), std::ios::binary) << data;
        return path(name);
    }
    std::string make_fifo(const char* name) const {
        EXPECT_EQ(::mkfifo(path(name).c_str(), 0600), 0);
        return path(name);
    }
    static std::string contents(const std::string& file) {
        std::ifstream in(file, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

  private:
    std::string folder_;
    std::size_t fds_ = 0;
};
std::string loop_name(const ::testing::TestParamInfo<const char*>& info) { return info.param; }

class Files : public FileTest {};
INSTANTIATE_TEST_SUITE_P(Loops, Files, ::testing::Values("epoll", "uring", "virtual"), loop_name);
/// What waits for readiness, or for another process: not on virtual time.
class PipeFiles : public FileTest {};
INSTANTIATE_TEST_SUITE_P(Loops, PipeFiles, ::testing::Values("epoll", "uring"), loop_name);

// ---- reading and writing

TEST_P(Files, reads_and_writes_at_one_position) {
    run([](std::string path) -> Coro<> {
        File file = co_await open_file(path, "w+");
        EXPECT_EQ(co_await file.write("hello, world"), 12u);
        EXPECT_EQ(file.tell(), 12);
        EXPECT_EQ(co_await file.read(), "");
        EXPECT_EQ(co_await file.seek(7), 7);
        EXPECT_EQ(co_await file.read(3), "wor");
        EXPECT_EQ(file.tell(), 10);
        EXPECT_EQ(co_await file.read(0), "");
        EXPECT_EQ(co_await file.read(100), "ld");
        EXPECT_EQ(co_await file.read(100), "");
        EXPECT_EQ(co_await file.seek(-5, Whence::END), 7);
        EXPECT_EQ(co_await file.seek(1, Whence::CURRENT), 8);
        EXPECT_EQ(co_await file.write(std::string("OR")), 2u);
        EXPECT_EQ(co_await file.read(), "ld");
        co_await file.seek(0);
        std::array<std::byte, 5> memory{};
        EXPECT_EQ(co_await file.read_into(memory), 5u);
        EXPECT_EQ(static_cast<char>(memory[4]), 'o');
        EXPECT_EQ(co_await file.read_into(std::span<std::byte>()), 0u);
        EXPECT_EQ(co_await file.read_at(7, 5), "wORld");
        EXPECT_EQ(co_await file.read_at(10, 100), "ld");
        EXPECT_EQ(co_await file.read_at(100, 5), "");
        EXPECT_EQ(co_await file.read_at(0, 0), "");
        EXPECT_EQ(co_await file.write_at(0, "H"), 1u);
        EXPECT_EQ(file.tell(), 5);
        co_await file.close();
        EXPECT_EQ(co_await read_bytes(path), "Hello, wORld");
    }(path("x")));
}

TEST_P(Files, modes_are_pythons) {
    run([](std::string path) -> Coro<> {
        EXPECT_EQ(co_await thrown_by_await(open_file(path, "r+")),
                  "FileNotFoundError: [Errno 2] No such file or directory: '" + path + "'");
        {
            File fresh = co_await open_file(path, "x");
            co_await fresh.write("123");
            EXPECT_FALSE(fresh.readable());
            EXPECT_EQ(co_await thrown_by_await(fresh.read()), "OSError: not readable");
            EXPECT_EQ(co_await thrown_by_await(fresh.read_at(0, 1)), "OSError: not readable");
            co_await fresh.close();
        }
        EXPECT_EQ(co_await thrown_by_await(open_file(path, "xb")),
                  "FileExistsError: [Errno 17] File exists: '" + path + "'");
        {
            File reader = co_await open_file(path, "rb");
            EXPECT_EQ(co_await reader.read(), "123");
            EXPECT_FALSE(reader.writable());
            EXPECT_EQ(co_await thrown_by_await(reader.write("x")), "OSError: not writable");
            EXPECT_EQ(co_await thrown_by_await(reader.write_at(0, "x")), "OSError: not writable");
            EXPECT_EQ(co_await thrown_by_await(reader.truncate()), "OSError: not writable");
            co_await reader.close();
        }
        {
            File both = co_await open_file(path, "rb+");
            co_await both.write("abc");
            EXPECT_EQ(co_await both.read(), "");
            co_await both.close();
        }
        {
            File appending = co_await open_file(path, "a+");
            EXPECT_EQ(appending.tell(), 3);
            co_await appending.seek(0);
            EXPECT_EQ(co_await appending.read(1), "a");
            co_await appending.write("def");
            EXPECT_EQ(appending.tell(), 6);
            co_await appending.seek(0);
            EXPECT_EQ(co_await appending.read(), "abcdef");
            co_await appending.close();
        }
        {
            File emptied = co_await open_file(path, "w");
            co_await emptied.close();
            EXPECT_EQ(co_await read_bytes(path), "");
        }
        for (std::string bad : {"", "q", "rw", "b", "+", "r++", "rbb", "rt", "rU", "r b"}) {
            EXPECT_EQ(co_await thrown_by_await(open_file(path, bad)),
                      "ValueError: invalid mode: '" + bad + "'");
        }
    }(path("x")));
}

TEST_P(Files, a_new_file_has_the_permissions_that_are_asked_for) {
    ::mode_t before = ::umask(0);
    run([](std::string path) -> Coro<> {
        File file = co_await open_file(path, "w", {.permissions = 0640});
        FileStat status = co_await file.stat();
        EXPECT_EQ(status.mode & 07777, 0640u);
        co_await file.close();
        EXPECT_EQ(co_await thrown_by_await(open_file(path, "r", {.flags = O_DIRECTORY})),
                  "NotADirectoryError: [Errno 20] Not a directory: '" + path + "'");
    }(path("x")));
    ::umask(before);
}

TEST_P(Files, large_data_goes_through_whole) {
    std::string data = repeated(20'000'000);
    run([](std::string path, const std::string& all) -> Coro<> {
        EXPECT_EQ(co_await write_bytes(path, all), all.size());
        EXPECT_TRUE(co_await read_bytes(path) == all);
        File file = co_await open_file(path);
        std::string memory(all.size() + 10, '\0');
        EXPECT_EQ(co_await file.read_into(std::as_writable_bytes(std::span(memory))), all.size());
        memory.resize(all.size());
        EXPECT_TRUE(memory == all);
        EXPECT_TRUE(co_await file.read_at(1'000'000, 5'000'000) == all.substr(1'000'000, 5'000'000));
        co_await file.seek(-3'000'000, Whence::END);
        EXPECT_TRUE(co_await file.read(1'000'000'000'000) == all.substr(all.size() - 3'000'000));
        co_await file.close();
    }(path("x"), data));
}

TEST_P(Files, offsets_beyond_four_gigabytes_are_right) {
    run([](std::string path) -> Coro<> {
        constexpr std::int64_t FAR = (std::int64_t{5} << 30) + 3;
        File file = co_await open_file(path, "w+");
        co_await file.write_at(FAR, "far");
        EXPECT_EQ((co_await file.stat()).size, static_cast<std::uint64_t>(FAR) + 3);
        EXPECT_EQ(co_await file.read_at(FAR - 1, 10), std::string("\0far", 4));
        EXPECT_EQ(co_await file.seek(0, Whence::END), FAR + 3);
        co_await file.write("ther");
        EXPECT_EQ(file.tell(), FAR + 7);
        co_await file.seek(FAR);
        EXPECT_EQ(co_await file.read(), "farther");
        EXPECT_EQ(co_await file.truncate(FAR + 1), FAR + 1);
        EXPECT_EQ(file.tell(), FAR + 7);
        EXPECT_EQ(co_await file.read(), "");
        co_await file.seek(3);
        EXPECT_EQ(co_await file.truncate(), 3);
        EXPECT_EQ((co_await file.stat()).size, 3u);
        co_await file.close();
    }(path("x")));
}

TEST_P(Files, stat_tells_what_the_file_is) {
    run([](std::string path) -> Coro<> {
        co_await write_bytes(path, "12345");
        File file = co_await open_file(path);
        FileStat status = co_await file.stat();
        struct stat expected{};
        EXPECT_EQ(::fstat(file.fileno(), &expected), 0);
        EXPECT_EQ(status.size, 5u);
        EXPECT_TRUE(status.is_file());
        EXPECT_FALSE(status.is_directory());
        EXPECT_EQ(status.mode, expected.st_mode);
        EXPECT_EQ(status.inode, expected.st_ino);
        EXPECT_EQ(status.links, 1u);
        EXPECT_EQ(status.uid, ::getuid());
        EXPECT_EQ(status.mtime.time_since_epoch(), std::chrono::seconds(expected.st_mtim.tv_sec) +
                                                       std::chrono::nanoseconds(expected.st_mtim.tv_nsec));
        EXPECT_EQ(file.name(), path);
        EXPECT_TRUE(file.seekable());
        co_await file.flush();
        co_await file.sync();
        co_await file.sync({.data_only = true});
        co_await file.close();
    }(path("x")));
}

TEST_P(Files, files_whose_size_nobody_knows_are_read_to_their_end) {
    run([]() -> Coro<> {
        std::string status = co_await read_bytes("/proc/self/status");
        EXPECT_NE(status.find("\nPid:\t"), std::string::npos);
        EXPECT_NE(status.find("nonvoluntary_ctxt_switches"), std::string::npos);
        File zeros = co_await open_file("/dev/zero");
        EXPECT_EQ((co_await zeros.read(100'000)).size(), 100'000u);
        co_await zeros.close();
        EXPECT_EQ(co_await read_bytes("/dev/null"), "");
    }());
}

TEST_P(Files, data_may_come_in_every_form) {
    run([](std::string path) -> Coro<> {
        File file = co_await open_file(path, "w+");
        std::string string = "b";
        std::string_view view = "c";
        std::vector<std::byte> bytes{std::byte{'d'}};
        const std::string constant = "e";
        co_await file.write("a");
        co_await file.write(string);
        co_await file.write(view);
        co_await file.write(std::span<const std::byte>(bytes));
        co_await file.write(constant);
        // A temporary is kept until the write begins.
        auto later = file.write(string + "f");
        co_await coil::sleep(0s);
        co_await std::move(later);
        co_await file.write("");
        EXPECT_EQ(co_await file.read_at(0, 100), "abcdebf");
        co_await file.close();
    }(path("x")));
}

// ---- errors

TEST_P(Files, errors_are_oserrors_with_pythons_texts) {
    make("file", "x");
    run([](std::string folder) -> Coro<> {
        EXPECT_EQ(co_await thrown_by_await(open_file("no such file")),
                  "FileNotFoundError: [Errno 2] No such file or directory: 'no such file'");
        EXPECT_EQ(co_await thrown_by_await(open_file("it's")),
                  "FileNotFoundError: [Errno 2] No such file or directory: \"it's\"");
        EXPECT_EQ(co_await thrown_by_await(open_file(folder)),
                  "IsADirectoryError: [Errno 21] Is a directory: '" + folder + "'");
        EXPECT_EQ(co_await thrown_by_await(open_file(folder, "w")),
                  "IsADirectoryError: [Errno 21] Is a directory: '" + folder + "'");
        EXPECT_EQ(co_await thrown_by_await(open_file(folder + "/file/x")),
                  "NotADirectoryError: [Errno 20] Not a directory: '" + folder + "/file/x'");
        EXPECT_EQ(co_await thrown_by_await(open_file(std::string(5000, 'x'))),
                  "OSError: [Errno 36] File name too long: '" + std::string(5000, 'x') + "'");
        EXPECT_EQ(co_await thrown_by_await(open_file(std::string("a\0b", 3))),
                  "ValueError: embedded null byte");
        EXPECT_EQ(co_await thrown_by_await(read_bytes("no such file")),
                  "FileNotFoundError: [Errno 2] No such file or directory: 'no such file'");
        EXPECT_EQ(co_await thrown_by_await(write_bytes("/dev/full", "x")),
                  "OSError: [Errno 28] No space left on device");

        File full = co_await open_file("/dev/full", "r+");
        EXPECT_EQ(co_await thrown_by_await(full.write("x")), "OSError: [Errno 28] No space left on device");
        EXPECT_EQ(co_await thrown_by_await(full.sync()), "OSError: [Errno 22] Invalid argument");
        EXPECT_EQ(co_await thrown_by_await(full.truncate(0)), "OSError: [Errno 22] Invalid argument");
        co_await full.close();

        File file = co_await open_file(folder + "/file", "r+");
        EXPECT_EQ(co_await thrown_by_await(file.seek(-1)), "OSError: [Errno 22] Invalid argument");
        EXPECT_EQ(co_await thrown_by_await(file.seek(-1, Whence::CURRENT)),
                  "OSError: [Errno 22] Invalid argument");
        co_await file.seek(INT64_MAX);
        EXPECT_EQ(co_await thrown_by_await(file.seek(1, Whence::CURRENT)),
                  "OSError: [Errno 75] Value too large for defined data type");
        EXPECT_EQ(co_await thrown_by_await(file.read_at(-1, 1)), "ValueError: negative seek value -1");
        EXPECT_EQ(co_await thrown_by_await(file.write_at(-1, "x")), "ValueError: negative seek value -1");
        EXPECT_EQ(co_await thrown_by_await(file.truncate(-1)), "OSError: [Errno 22] Invalid argument");
        co_await file.close();
    }(path("").substr(0, path("").size() - 1)));
}

TEST_P(Files, permissions_are_kept) {
    make("secret", "x");
    ::chmod(path("secret").c_str(), 0);
    ::chmod(path("").c_str(), 0755);
    auto result = support::in_child([this] {
        if (::geteuid() == 0 && ::seteuid(65534) != 0) return 77;
        std::string error = run([](std::string path) -> Coro<std::string> {
            co_return co_await thrown_by_await(open_file(path));
        }(path("secret")));
        return error == "PermissionError: [Errno 13] Permission denied: '" + path("secret") + "'" ? 0 : 1;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_P(Files, a_write_beyond_the_limit_is_cut_and_then_fails) {
    std::string file = path("x");
    auto result = support::in_child([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        rlimit limit{1000, 1000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        bool right = run([](std::string path) -> Coro<bool> {
            File out = co_await open_file(path, "w");
            std::string error = co_await thrown_by_await(out.write(std::string(1500, 'x')));
            bool told = out.tell() == 1000;
            co_await out.close();
            co_return told&& error == "OSError: [Errno 27] File too large";
        }(file));
        return right ? 0 : 1;
    });
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(contents(file).size(), 1000u);
}

TEST_P(Files, a_process_without_descriptors_gets_the_error) {
    make("file", "x");
    std::vector<std::string> errors;
    run([](std::string path, std::vector<std::string>& told) -> Coro<> {
        co_await read_bytes(path);
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        rlimit none{0, before.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &none);
        told.push_back(co_await thrown_by_await(open_file(path)));
        ::setrlimit(RLIMIT_NOFILE, &before);
    }(path("file"), errors));
    EXPECT_EQ(errors.at(0), "OSError: [Errno 24] Too many open files: '" + path("file") + "'");
}

// ---- closing

TEST_P(Files, a_closed_file_refuses_everything_but_close) {
    make("file", "x");
    support::LogRecorder log;
    run([](std::string path) -> Coro<> {
        File file = co_await open_file(path, "r+");
        EXPECT_FALSE(file.closed());
        co_await file.close();
        co_await file.close();
        File none;
        File moved = std::move(file);
        for (File* closed : {&none, &moved, &file}) {
            const char* error = "ValueError: I/O operation on closed file";
            EXPECT_TRUE(closed->closed());
            EXPECT_EQ(co_await thrown_by_await(closed->read()), error);
            EXPECT_EQ(co_await thrown_by_await(closed->read_into({})), error);
            EXPECT_EQ(co_await thrown_by_await(closed->read_at(0, 1)), error);
            EXPECT_EQ(co_await thrown_by_await(closed->write("x")), error);
            EXPECT_EQ(co_await thrown_by_await(closed->write_at(0, "x")), error);
            EXPECT_EQ(co_await thrown_by_await(closed->seek(0)), error);
            EXPECT_EQ(co_await thrown_by_await(closed->truncate()), error);
            EXPECT_EQ(co_await thrown_by_await(closed->flush()), error);
            EXPECT_EQ(co_await thrown_by_await(closed->sync()), error);
            EXPECT_EQ(co_await thrown_by_await(closed->stat()), error);
            EXPECT_EQ(thrown_by([&] { return closed->tell(); }), error);
            EXPECT_EQ(thrown_by([&] { return closed->fileno(); }), error);
            EXPECT_EQ(thrown_by([&] { return &closed->enter(); }), error);
            co_await closed->close();
        }
    }(path("file")));
    EXPECT_EQ(log.str(), "");
}

TEST_P(Files, async_with_closes_at_the_end_whatever_happens) {
    make("file", "abc");
    run([](std::string path) -> Coro<> {
        auto read = [](File& file) -> Coro<std::string> { co_return co_await file.read(); };
        EXPECT_EQ(co_await async_with(co_await open_file(path), read), "abc");
        File kept = co_await open_file(path);
        auto fail = [](File&) -> Coro<> {
            co_await coil::sleep(0s);
            throw ValueError("in the body");
        };
        EXPECT_EQ(co_await thrown_by_await(async_with(kept, fail)), "ValueError: in the body");
        EXPECT_TRUE(kept.closed());
    }(path("file")));
}

TEST_P(Files, one_that_is_destroyed_open_closes_its_descriptor_and_says_so) {
    make("file", "abc");
    support::LogRecorder log;
    run([](std::string path) -> Coro<> {
        std::size_t fds = support::open_fds();
        {
            File file = co_await open_file(path);
            EXPECT_EQ(support::open_fds(), fds + 1);
        }
        EXPECT_EQ(support::open_fds(), fds);
        File target = co_await open_file(path);
        {
            File other = co_await open_file(path);
            co_await other.read(1);
            target = std::move(other);
        }
        EXPECT_EQ(target.tell(), 1);
        co_await target.close();
        EXPECT_EQ(support::open_fds(), fds);
    }(path("file")));
    EXPECT_EQ(log.count("unclosed file '" + path("file") + "': co_await close(), or use async_with"), 2u);
    EXPECT_EQ(log.lines().size(), 2u);
}

TEST_P(Files, one_that_is_destroyed_during_an_operation_closes_its_descriptor_after_it) {
    std::string data = repeated(3'000'000);
    make("file", data);
    support::LogRecorder log;
    run([](std::string path, const std::string& all) -> Coro<> {
        std::size_t fds = support::open_fds();
        Task<std::string> reading;
        {
            File file = co_await open_file(path);
            reading = create_task(file.read());
            co_await coil::sleep(0s);
        }
        EXPECT_TRUE(co_await reading == all);
        EXPECT_EQ(support::open_fds(), fds);
    }(path("file"), data));
    EXPECT_EQ(log.count("unclosed file"), 1u);
}

TEST_P(Files, close_waits_for_operations_under_way_and_happens_although_it_is_cancelled) {
    std::string data = repeated(3'000'000);
    make("file", data);
    run([](std::string path, const std::string& all) -> Coro<> {
        std::size_t fds = support::open_fds();
        for (int round = 0; round < 200; ++round) {
            File file = co_await open_file(path);
            auto reading = create_task(file.read_at(0, round % 2 ? 10 : all.size()));
            auto queued = create_task(file.read());
            auto behind = create_task(file.read());
            co_await support::turns(1);
            auto closing = create_task(file.close());
            co_await support::turns(1 + round % 5);
            if (round % 3 == 0) closing.cancel();
            co_await try_await(closing);
            EXPECT_TRUE(file.closed());
            auto outcome = co_await try_await(reading);
            EXPECT_TRUE(outcome.has_value());
            EXPECT_EQ((co_await try_await(queued)).has_value(), true);
            EXPECT_EQ(support::error_text((co_await try_await(behind)).exception()),
                      "ValueError: I/O operation on closed file");
            EXPECT_EQ(support::open_fds(), fds) << round;
        }
    }(path("file"), data));
}

// ---- many at once

TEST_P(Files, sixty_four_tasks_read_at_once) {
    std::string data = repeated(64 * 10'000);
    make("file", data);
    run([](std::string path, const std::string& all) -> Coro<> {
        File file = co_await open_file(path);
        std::vector<Coro<std::string>> reads;
        for (int i = 0; i < 64; ++i) reads.push_back(file.read_at(i * 10'000, 10'000));
        std::string joined;
        for (std::string& part : co_await gather(std::move(reads))) joined += part;
        EXPECT_TRUE(joined == all);
        co_await file.close();
    }(path("file"), data));
}

TEST_P(Files, tasks_that_share_a_position_take_turns) {
    make("file", repeated(10'000));
    run([](std::string path) -> Coro<> {
        File file = co_await open_file(path, "r+");
        std::vector<Coro<std::string>> reads;
        for (int i = 0; i < 100; ++i) reads.push_back(file.read(100));
        std::string joined;
        for (std::string& part : co_await gather(std::move(reads))) joined += part;
        EXPECT_TRUE(joined == repeated(10'000));
        co_await file.seek(0);
        std::vector<Coro<std::size_t>> writes;
        for (int i = 0; i < 100; ++i)
            writes.push_back(file.write(std::string(100, static_cast<char>('A' + i % 26))));
        co_await gather(std::move(writes));
        std::string all = co_await file.read_at(0, 10'000);
        for (std::size_t i = 0; i < 10'000; ++i) EXPECT_EQ(all[i], static_cast<char>('A' + i / 100 % 26));
        co_await file.close();
    }(path("file")));
}

TEST_P(Files, appended_pieces_stay_whole) {
    run([](std::string path) -> Coro<> {
        auto append = [](std::string name, char letter) -> Coro<> {
            File file = co_await open_file(name, "a");
            for (int i = 0; i < 50; ++i) co_await file.write(std::string(100, letter));
            co_await file.close();
        };
        co_await gather(append(path, 'a'), append(path, 'b'), append(path, 'c'));
        std::string all = co_await read_bytes(path);
        EXPECT_EQ(all.size(), 15'000u);
        for (std::size_t i = 0; i < all.size(); i += 100)
            EXPECT_EQ(all.substr(i, 100), std::string(100, all[i]));
    }(path("x")));
}

TEST_P(Files, ten_thousand_files_are_opened_and_closed) {
    make("file", "abc");
    run([](std::string path) -> Coro<> {
        std::size_t fds = support::open_fds();
        auto one = [](const std::string& name) -> Coro<> {
            File file = co_await open_file(name);
            EXPECT_EQ(co_await file.read(), "abc");
            co_await file.close();
        };
        for (int i = 0; i < 100; ++i) {
            std::vector<Coro<>> batch;
            for (int k = 0; k < 100; ++k) batch.push_back(one(path));
            co_await gather(std::move(batch));
        }
        EXPECT_EQ(support::open_fds(), fds);
    }(path("file")));
}

// ---- cancellation

TEST_P(Files, any_operation_may_be_cancelled_at_any_time) {
    std::string data = repeated(300'000);
    make("file", data);
    long alive = support::Alive::count();
    run([](std::string path, std::string target, const std::string& all) -> Coro<> {
        std::size_t fds = support::open_fds();
        File source = co_await open_file(path);
        File out = co_await open_file(target, "w+");
        std::vector<std::function<Coro<>()>> operations{
            [&]() -> Coro<> {
                File file = co_await open_file(path);
                co_await file.close();
            },
            [&]() -> Coro<> {
                EXPECT_TRUE(co_await source.read_at(1000, 200'000) == all.substr(1000, 200'000));
            },
            [&]() -> Coro<> {
                std::int64_t before = source.tell();
                auto outcome = co_await try_await(source.read(1000));
                EXPECT_EQ(source.tell(), before + (outcome ? 1000 : 0));
                co_await source.seek(0);
                outcome.value();
            },
            [&]() -> Coro<> {
                std::vector<std::byte> memory(100'000);  // gone with the frame: nobody may write there then
                co_await source.read_into(memory);
            },
            [&]() -> Coro<> {
                std::string mine = all;  // the same, for a reader
                co_await out.write_at(0, mine);
            },
            [&]() -> Coro<> { co_await out.write(std::string("temporary")); },
            [&]() -> Coro<> { co_await out.sync({.data_only = true}); },
            [&]() -> Coro<> { co_await out.truncate(400'000); },
            [&]() -> Coro<> { co_await out.stat(); },
            [&]() -> Coro<> { co_await read_bytes(path); },
            [&]() -> Coro<> { co_await write_bytes(target + "2", all); },
        };
        support::LogRecorder
            log;  // a file that a cancelled open_file() left to its task is closed by its destructor
        auto counted = [](std::function<Coro<>()>& operation) -> Coro<> {
            support::Alive here;
            co_await operation();
        };
        for (std::size_t round = 0; round < 3300; ++round) {
            auto task = create_task(counted(operations[round % operations.size()]));
            co_await support::turns(static_cast<int>(round / operations.size() % 7));
            bool cut = task.cancel();
            if (round % 4 == 0) task.cancel();
            auto outcome = co_await try_await(task);
            EXPECT_EQ(outcome.cancelled(), cut) << round << ' ' << support::error_text(outcome.exception());
        }
        EXPECT_TRUE(co_await source.read_at(0, all.size()) == all);
        co_await source.close();
        co_await out.close();
        co_await source.close();
        // An open that a thread finished after its task had gone comes back through the loop, which closes it.
        for (int i = 0; i < 1000 && support::open_fds() != fds; ++i) co_await coil::sleep(1ms);
        EXPECT_EQ(get_running_loop().core().awaited_elsewhere, 0u);
    }(path("file"), path("target"), data));
    EXPECT_EQ(support::Alive::count(), alive);
}

TEST_P(Files, a_cancelled_write_tells_how_far_it_came) {
    run([](std::string path) -> Coro<> {
        for (int round = 0; round < 50; ++round) {
            File file = co_await open_file(path, "w");
            auto writing = create_task(file.write(std::string(20'000'000, 'x')));
            co_await support::turns(round % 10);
            writing.cancel();
            co_await try_await(writing);
            EXPECT_EQ((co_await file.stat()).size, static_cast<std::uint64_t>(file.tell()));
            co_await file.close();
        }
    }(path("x")));
}

// ---- the end of the loop

TEST_P(Files, a_loop_closes_while_operations_are_under_way) {
    std::string data = repeated(3'000'000);
    make("file", data);
    long alive = support::Alive::count();
    support::LogRecorder log;
    for (int round = 0; round < 100; ++round) {
        auto loop = factory()();
        auto use = [](std::string path, std::string target, const std::string& all) -> Coro<> {
            support::Alive here;
            File in = co_await open_file(path);
            File out = co_await open_file(target, "w");
            std::vector<std::byte> memory(100'000);
            auto reading = create_task(in.read_into(memory));
            auto writing = create_task(out.write(all));
            auto whole = create_task(in.read_at(0, all.size()));
            co_await out.write_at(0, "x");
            co_await coil::sleep(1h);
        };
        std::vector<Task<>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(loop->create_task(use(path("file"), path("target"), data)));
        for (int turn = 0; turn < round % 10; ++turn) support::run_one_turn(*loop);
        loop->close();
        tasks.clear();
        loop.reset();
    }
    EXPECT_EQ(support::Alive::count(), alive);
}

TEST_P(Files, operations_go_on_when_the_loop_stops_and_runs_again_in_another_thread) {
    std::string data = repeated(300'000);
    make("file", data);
    auto loop = factory()();
    auto use = [](std::string path, const std::string& all) -> Coro<int> {
        for (int i = 0; i < 20; ++i) {
            File file = co_await open_file(path);
            EXPECT_TRUE(co_await file.read() == all);
            co_await file.close();
        }
        co_return 1;
    };
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 10; ++i) tasks.push_back(loop->create_task(use(path("file"), data)));
    auto all_done = [&] {
        for (auto& task : tasks) {
            if (!task.done()) return false;
        }
        return true;
    };
    while (!all_done()) {
        for (int i = 0; i < 3; ++i) support::run_one_turn(*loop);
        std::thread([&] {
            for (int i = 0; i < 3; ++i) support::run_one_turn(*loop);
        }).join();
    }
    for (auto& task : tasks) EXPECT_EQ(task.result(), 1);
    loop->close();
}

// ---- pipes

TEST_P(PipeFiles, a_fifo_is_read_as_its_data_comes) {
    run([](std::string path) -> Coro<> {
        auto opening = create_task(open_file(path));
        File in = co_await open_file(path, "w");
        File out = co_await std::move(opening);
        EXPECT_FALSE(out.seekable());
        EXPECT_EQ(thrown_by([&] { return out.tell(); }), "OSError: [Errno 29] Illegal seek");
        EXPECT_EQ(co_await thrown_by_await(out.seek(0)), "OSError: [Errno 29] Illegal seek");
        EXPECT_EQ(co_await thrown_by_await(out.read_at(0, 1)), "OSError: [Errno 29] Illegal seek");
        EXPECT_EQ(co_await thrown_by_await(in.write_at(0, "x")), "OSError: [Errno 29] Illegal seek");
        auto reading = create_task(out.read(100));
        co_await support::turns(3);
        EXPECT_FALSE(reading.done());
        EXPECT_NE(detail::describe_stuck(reading.task()).find("File.read"), std::string::npos);
        co_await in.write("abc");
        EXPECT_EQ(co_await reading, "abc");
        std::array<std::byte, 8> memory{};
        auto into = create_task(out.read_into(memory));
        co_await support::turns(2);
        co_await in.write("de");
        EXPECT_EQ(co_await into, 2u);
        auto rest = create_task(out.read());
        std::string large = repeated(1'000'000);  // more than fits
        co_await in.write(large);
        co_await in.close();
        EXPECT_TRUE(co_await rest == large);
        EXPECT_EQ(co_await out.read(10), "");
        co_await out.close();
    }(make_fifo("fifo")));
}

TEST_P(PipeFiles, a_cancelled_read_loses_no_byte_and_an_open_that_waits_for_ever_can_be_cancelled) {
    run([](std::string path) -> Coro<> {
        for (int round = 0; round < 4; ++round) {
            auto never = create_task(open_file(path));
            co_await support::turns(3 + round);
            never.cancel();
            co_await try_await(std::move(never));
            EXPECT_TRUE(never.cancelled());
        }
        // Whoever still waits there in a thread goes on now.
        auto opening = create_task(open_file(path));
        File in = co_await open_file(path, "w");
        File out = co_await std::move(opening);
        for (int round = 0; round < 1000; ++round) {
            auto reading = create_task(out.read(1));
            co_await support::turns(round % 4);
            if (round % 2) co_await in.write("x");
            bool cut = reading.cancel();
            auto outcome = co_await try_await(reading);
            EXPECT_EQ(outcome.cancelled(), cut);
            if (round % 2 && cut) {
                EXPECT_EQ(co_await out.read(1), "x");
            }
        }
        co_await in.close();
        co_await out.close();
    }(make_fifo("fifo")));
}

TEST_P(PipeFiles, closing_wakes_who_waits_for_data) {
    run([](std::string path) -> Coro<> {
        File both = co_await open_file(path, "r+");
        auto reading = create_task(both.read(10));
        auto behind = create_task(both.read(10));
        auto writing = create_task(both.write(std::string(1'000'000, 'x')));
        co_await support::turns(5);
        EXPECT_TRUE(reading.done());
        EXPECT_TRUE(behind.done());
        EXPECT_FALSE(writing.done());
        co_await both.close();
        EXPECT_EQ(support::error_text((co_await try_await(writing)).exception()),
                  "ValueError: I/O operation on closed file");

        File empty = co_await open_file(path, "r+");
        auto waiting = create_task(empty.read(10));
        co_await support::turns(3);
        EXPECT_FALSE(waiting.done());
        co_await empty.close();
        EXPECT_EQ(support::error_text((co_await try_await(waiting)).exception()),
                  "ValueError: I/O operation on closed file");
    }(make_fifo("fifo")));
}

TEST_P(PipeFiles, writing_where_nobody_reads_is_a_broken_pipe_and_no_signal) {
    run([](std::string path) -> Coro<> {
        auto opening = create_task(open_file(path));
        File in = co_await open_file(path, "w");
        File out = co_await std::move(opening);
        co_await out.close();
        EXPECT_EQ(co_await thrown_by_await(in.write("x")), "BrokenPipeError: [Errno 32] Broken pipe");
        co_await in.close();
    }(make_fifo("fifo")));
}

TEST_P(PipeFiles, a_loop_stops_and_closes_while_an_open_waits_in_the_kernel) {
    std::string fifo = make_fifo("fifo");
    support::LogRecorder log;
    auto loop = factory()();
    auto opening = loop->create_task(open_file(fifo));
    for (int i = 0; i < 5; ++i) support::run_one_turn(*loop);
    EXPECT_FALSE(opening.done());
    // It goes on in another thread, when the other end is opened.
    std::thread writer;
    std::thread([&] {
        loop->call_soon(
            [&] { writer = std::thread([&] { ::close(::open(fifo.c_str(), O_WRONLY | O_CLOEXEC)); }); });
        auto close = [](Task<File> task) -> Coro<> {
            File file = co_await std::move(task);
            co_await file.close();
        };
        loop->run_until_complete(close(opening));
    }).join();
    writer.join();

    auto never = loop->create_task(open_file(fifo));
    for (int i = 0; i < 5; ++i) support::run_one_turn(*loop);
    loop->close();
    never = {};
    loop.reset();
    EXPECT_EQ(log.count("Task was destroyed but it is pending!"), 1u);
    // A thread that is left there is let go.
    int other = ::open(fifo.c_str(), O_RDWR | O_CLOEXEC);
    ::close(other);
}

}  // namespace
