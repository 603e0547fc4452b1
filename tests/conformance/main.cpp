// conformance --list
// conformance NAME --backend epoll|uring|virtual
//
// Runs one scenario; prints its trace. Exit code 77: it cannot run on this backend here; the reason is on stderr.

#include <cxxabi.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <typeinfo>

#include "coil/process_pool.hpp"
#include "coil/testing/virtual_loop.hpp"
#include "scenario.hpp"

namespace conformance {

namespace {

constexpr int SKIPPED = 77;

struct Backend {
    std::string_view name;
    coil::LoopFactory make;
};
constexpr Backend BACKENDS[] = {
    {"epoll", coil::epoll_loop},
    {"uring", coil::uring_loop},
    {"virtual", coil::testing::virtual_loop},
};

const Backend* chosen = nullptr;

int skip(std::string_view reason) {
    fmt::print(stderr, "skipped: {}\n", reason);
    return SKIPPED;
}

int usage() {
    fmt::print(stderr, "usage: conformance --list | NAME --backend epoll|uring|virtual\n");
    return 2;
}

int run_scenario(std::string_view name) {
    auto scenario = std::ranges::find(scenarios(), name, &Scenario::name);
    if (scenario == scenarios().end()) {
        fmt::print(stderr, "no scenario '{}': see --list\n", name);
        return 2;
    }
    if (backend() == "virtual" && !scenario->not_on_virtual.empty()) return skip(scenario->not_on_virtual);
    try {
        new_loop()->close();
    } catch (const coil::OSError& e) {
        return skip(fmt::format("no {} here: {}", backend(), e.what()));
    }
    scenario->body();
    return 0;
}

std::string bare_name(const std::type_info& type) {
    int status = 0;
    std::unique_ptr<char, decltype(&std::free)> demangled(
        abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
    std::string name = status == 0 ? demangled.get() : type.name();
    return name.substr(name.rfind(':') + 1);
}

}  // namespace

std::unique_ptr<coil::EventLoop> new_loop() { return chosen->make(); }
std::string_view backend() { return chosen->name; }

std::string join(const std::vector<std::string>& texts, std::string_view separator) {
    return fmt::format("{}", fmt::join(texts, separator));
}

void print_line(std::vector<std::string> words) { fmt::print("{}\n", fmt::join(words, " ")); }

std::string name_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (...) {
        return bare_name(*abi::__cxa_current_exception_type());
    }
}

std::string name_of(const std::exception& error) { return bare_name(typeid(error)); }

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    } catch (const coil::CancelledError& e) {
        return std::string(e.message());
    }
}

std::string texts_of(const coil::ExceptionGroup& group) {
    std::vector<std::string> texts;
    for (const std::exception_ptr& error : group.exceptions()) texts.push_back(text_of(error));
    return join(texts);
}

}  // namespace conformance

int main(int argc, char** argv) {
    using namespace conformance;
    coil::freeze_support();
    std::ranges::sort(scenarios(), {}, &Scenario::name);
    std::vector<std::string_view> args(argv + 1, argv + argc);
    if (args == std::vector<std::string_view>{"--list"}) {
        for (const Scenario& scenario : scenarios()) print(scenario.name);
        return 0;
    }
    if (args.size() != 3 || args[1] != "--backend") return usage();
    auto found = std::ranges::find(BACKENDS, args[2], &Backend::name);
    if (found == std::end(BACKENDS)) return usage();
    chosen = found;
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a crash must not swallow the trace so far
    return run_scenario(args[0]);
}
