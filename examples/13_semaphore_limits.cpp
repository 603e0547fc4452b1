// A Semaphore bounds how many tasks are in a section at once.

#include <algorithm>
#include <coil/coil.hpp>
#include <fmt/core.h>

using namespace std::chrono_literals;

struct Downloads {
    coil::Semaphore permits{2};
    int running = 0;
    int most = 0;
};

coil::Coro<> download(Downloads& downloads, int page) {
    auto permit =
        co_await downloads.permits.scoped();  // released at the end of the scope, however that comes
    downloads.most = std::max(downloads.most, ++downloads.running);
    co_await coil::sleep(10ms);
    fmt::print("page {}\n", page);
    --downloads.running;
}

coil::Coro<> download_all() {
    Downloads downloads;
    co_await coil::async_with(coil::TaskGroup(), [&](coil::TaskGroup& group) -> coil::Coro<> {
        for (int page = 1; page <= 6; ++page) group.create_task(download(downloads, page));
        co_return;
    });
    fmt::print("at most {} at once\n", downloads.most);
}

int main() { coil::run(download_all()); }
