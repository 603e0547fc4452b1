// Functions that block, in threads: the loop goes on beside them, and a pool of one thread keeps them apart.

#include <chrono>
#include <coil/coil.hpp>
#include <fmt/core.h>
#include <string>
#include <thread>

using namespace std::chrono_literals;

// Stands for a library that knows no loop: a database's client, a compressor, a slow disk.
std::size_t count_words(std::string text) {
    std::this_thread::sleep_for(100ms);
    bool in_word = false;
    std::size_t words = 0;
    for (char c : text) {
        bool letter = c != ' ';
        if (letter && !in_word) ++words;
        in_word = letter;
    }
    return words;
}

coil::Coro<> tick(int& ticks) {
    for (;;) {
        co_await coil::sleep(5ms);
        ++ticks;
    }
}

// Stands for a library that two threads may not use at the same time.
int next_number() {
    static int number = 0;
    return ++number;
}

coil::Coro<> work() {
    int ticks = 0;
    coil::Task<> ticking = coil::create_task(tick(ticks));

    // Each in a thread of the loop's default executor. Arguments are copied: the thread refers to nothing of ours.
    auto both = coil::gather(coil::to_thread(count_words, "the quick brown fox"),
                             coil::to_thread(count_words, "the lazy dog"));
    auto [first, second] = co_await std::move(both);
    ticking.cancel();
    fmt::print("{} words and {} words\n", first, second);
    fmt::print("the loop went on meanwhile: {}\n", ticks >= 2);

    coil::EventLoop& loop = coil::get_running_loop();
    coil::ThreadPoolExecutor one_at_a_time(1);
    std::vector<coil::Future<int>> numbers;
    for (int i = 0; i < 5; ++i) numbers.push_back(loop.run_in_executor(&one_at_a_time, next_number));
    for (auto& number : numbers) fmt::print("{} ", co_await number);
    fmt::print("\n");
}

int main() { coil::run(work()); }
