// Files: several are written at once, then read piece by piece while something else goes on.

#include <coil/coil.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <unistd.h>

coil::Coro<> copy(std::string from, std::string to) {
    coil::File source = co_await coil::open_file(from);
    coil::File target = co_await coil::open_file(to, "w");
    for (;;) {
        std::string piece = co_await source.read(64 * 1024);
        if (piece.empty()) break;
        co_await target.write(piece);
    }
    co_await target.sync();
    co_await target.close();
    co_await source.close();
}

coil::Coro<std::size_t> words_in(std::string path) {
    auto count = [](coil::File& file) -> coil::Coro<std::size_t> {
        std::string text = co_await file.read();
        std::size_t spaces = 0;
        for (char c : text) spaces += c == ' ';
        co_return spaces + 1;
    };
    co_return co_await coil::async_with(co_await coil::open_file(path), count);  // closes the file
}

coil::Coro<> program(std::string folder) {
    std::string verse = folder + "/verse";
    co_await coil::write_bytes(verse, "the quick brown fox jumps over the lazy dog");

    co_await coil::gather(copy(verse, folder + "/first"), copy(verse, folder + "/second"));
    auto [first, second] = co_await coil::gather(words_in(folder + "/first"), words_in(folder + "/second"));
    fmt::print("{} and {} words\n", first, second);

    coil::File log = co_await coil::open_file(folder + "/first", "a+");
    co_await log.write(", twice");
    fmt::print("{} bytes, the last are '{}'\n", log.tell(), co_await log.read_at(log.tell() - 5, 5));
    co_await log.close();

    try {
        coil::File fresh = co_await coil::open_file(folder + "/first", "x");
        co_await fresh.close();
    } catch (const coil::FileExistsError&) {
        fmt::print("there already\n");
    }
}

int main() {
    auto folder = std::filesystem::temp_directory_path() / fmt::format("coil_example_{}", ::getpid());
    std::filesystem::create_directory(folder);
    coil::run(program(folder.string()));
    std::filesystem::remove_all(folder);
}
