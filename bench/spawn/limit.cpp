// posix_spawn and a waitpid that blocks.
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <vector>

#include "../common/bench.hpp"

extern char** environ;

void spawn(long count) {
    for (long i = 0; i < count; i++) {
        pid_t pid = 0;
        int status = 0;
        char name[] = "/bin/true";
        char* argv[] = {name, nullptr};
        if (posix_spawn(&pid, name, nullptr, nullptr, argv, environ) != 0) std::abort();
        if (waitpid(pid, &status, 0) != pid || status != 0) std::abort();
    }
}

int main() {
    constexpr long COUNT = 300;
    spawn(20);
    double start = now_ns();
    spawn(COUNT);
    report("spawn", "small", (now_ns() - start) / COUNT);

    std::vector<char> memory(std::size_t{1} << 30, 'x');
    bench::keep(memory.data());
    spawn(5);
    start = now_ns();
    spawn(COUNT);
    report("spawn", "1_gib", (now_ns() - start) / COUNT);
}
