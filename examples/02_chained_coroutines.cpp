// Coroutines that await one another. `co_await f()` runs f inside the same task, at once; an exception passes through
// as it does through calls.

#include <coil/coil.hpp>
#include <fmt/core.h>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

coil::Coro<int> find_user(std::string name) {
    co_await coil::sleep(10ms);
    if (name != "ada") throw std::out_of_range("no user " + name);
    co_return 7;
}

coil::Coro<std::string> find_mail(int user) {
    co_await coil::sleep(10ms);
    co_return fmt::format("user{}@example.org", user);
}

coil::Coro<std::string> mail_of(std::string name) {
    int user = co_await find_user(name);
    fmt::print("{} is user {}\n", name, user);
    co_return co_await find_mail(user);
}

coil::Coro<> look_up() {
    std::string mail = co_await mail_of("ada");
    fmt::print("mail: {}\n", mail);
    try {
        mail = co_await mail_of("bob");
    } catch (const std::out_of_range& e) {
        fmt::print("error: {}\n", e.what());
    }
}

int main() { coil::run(look_up()); }
