// Computing in worker processes, one for each processor, with a bar that shows how far they are. The bar is for a terminal
// only: a file gets the result alone.

#include <unistd.h>

#include <coil/coil.hpp>
#include <coil/process_pool.hpp>
#include <cstdio>
#include <fmt/core.h>
#include <string>
#include <vector>

// Runs in the workers. Arguments and results travel as bytes, see docs/reference/process_pool.md.
unsigned count_primes(unsigned first, unsigned last) {
    unsigned count = 0;
    for (unsigned n = first; n < last; ++n) {
        bool prime = n >= 2;
        for (unsigned divisor = 2; prime && divisor * divisor <= n; ++divisor) prime = n % divisor != 0;
        count += prime;
    }
    return count;
}

void show_progress(std::size_t done, std::size_t all) {
    if (!::isatty(STDERR_FILENO)) return;
    constexpr std::size_t WIDTH = 40;
    fmt::print(stderr, "\r[{:<{}}] {}/{}{}", std::string(WIDTH * done / all, '#'), WIDTH, done, all,
               done == all ? "\n" : "");
}

coil::Coro<> count_primes_below(unsigned limit) {
    constexpr unsigned PARTS = 40;
    coil::ProcessPoolExecutor pool;
    coil::EventLoop& loop = coil::get_running_loop();
    std::vector<coil::Future<unsigned>> counts;
    for (unsigned part = 0; part < PARTS; ++part) {
        unsigned first = limit / PARTS * part;
        unsigned last = part + 1 == PARTS ? limit : first + limit / PARTS;
        counts.push_back(loop.run_in_executor(&pool, coil::process_function<count_primes>, first, last));
    }

    unsigned total = 0;
    std::size_t done = 0;
    show_progress(done, counts.size());
    auto ended = coil::as_completed(counts);
    while (auto part = co_await ended.next()) {
        total += part->result();
        show_progress(++done, counts.size());
    }
    fmt::print("{} primes below {}\n", total, limit);
}

int main() {
    coil::freeze_support();  // a worker is this program, begun anew: from here on it only serves
    coil::run(count_primes_below(1'000'000));
}
