// A pipeline of programs, as `sort | uniq -c` in a shell: the two are connected by a pipe of their own, so their bytes do not
// come through here. We write into the first and read from the last, at the same time.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>

// Both ends of a pipe. A child gets an end as one of its standard streams; ours must go then, or the reader sees no end.
struct Pipe {
    Pipe() {
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw coil::OSError(errno);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        for (int end : ends) ::close(end);
    }
    std::array<int, 2> ends{};
};

struct Pipeline {
    coil::Process sort;
    coil::Process uniq;
};

coil::Coro<Pipeline> start() {
    Pipe between;
    coil::Process sort =
        co_await coil::create_subprocess_exec("sort", {}, {.stdin_ = coil::PIPE, .stdout_ = between.ends[1]});
    std::vector<std::string> args(1, "-c");
    coil::Process uniq = co_await coil::create_subprocess_exec(
        "uniq", std::move(args), {.stdin_ = between.ends[0], .stdout_ = coil::PIPE});
    co_return Pipeline{std::move(sort), std::move(uniq)};
}

coil::Coro<> generate(coil::StreamWriter out) {
    for (int i = 0; i < 100'000; ++i) {
        out.write(i % 7 == 0 ? "seven\n" : i % 2 == 0 ? "even\n" : "odd\n");
        co_await out.drain();  // waits while the pipe is full
    }
    out.close();  // the end of the input
}

coil::Coro<> print_counts(coil::StreamReader in) {
    while (auto line = co_await in.next()) {
        std::size_t word = line->find_last_of(' ') + 1;
        fmt::print("{:>6} times {}", std::stoi(*line), line->substr(word));
    }
}

coil::Coro<> run_pipeline() {
    Pipeline pipeline = co_await start();
    co_await coil::gather(generate(pipeline.sort.stdin_()), print_counts(pipeline.uniq.stdout_()));
    auto [sorted, counted] = co_await coil::gather(pipeline.sort.wait(), pipeline.uniq.wait());
    fmt::print("return codes {} and {}\n", sorted, counted);
}

int main() { coil::run(run_pipeline()); }
