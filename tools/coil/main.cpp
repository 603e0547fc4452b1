// The program `coil`: looks into programs that use coil.

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/coil/show.hpp"
#include "tools/coil/snapshot.hpp"
#include "tools/coil/trace_summary.hpp"

namespace {

constexpr int FAILED = 1;
constexpr int MISUSED = 2;

constexpr std::string_view USAGE = R"(usage: coil ps [--json] PID|CORE
       coil pstree [--json] PID|CORE
       coil trace summary [--all] [--json] FILE

ps and pstree show the tasks of another program that uses coil, or of one that has left a core file. The program is
stopped while it is read, and need not help.

  ps             a table: each task with its state, age, place, coroutines and what it waits for
  pstree         a tree: who awaits whom, through every coroutine
  trace summary  who used the time of a loop, from the file that COIL_TRACE or start_tracing() wrote
  --json         all that is known, for other programs
  --no-colour    no colours on a terminal either; NO_COLOR in the environment does the same
)";

int misused(std::string_view why) {
    fmt::print(stderr, "coil: {}\n{}", why, USAGE);
    return MISUSED;
}

int show(std::string_view command, std::span<const std::string_view> arguments) {
    bool json = false;
    coil::tools::ShowOptions options{.colours = ::isatty(STDOUT_FILENO) == 1 && !std::getenv("NO_COLOR")};
    std::optional<std::string> target;
    for (std::string_view argument : arguments) {
        if (argument == "--json") {
            json = true;
        } else if (argument == "--no-colour") {
            options.colours = false;
        } else if (argument.starts_with("-")) {
            return misused(fmt::format("unknown option '{}'", argument));
        } else if (target) {
            return misused("one process or core file at a time");
        } else {
            target = argument;
        }
    }
    if (!target) return misused("which process, or core file?");

    pid_t pid = 0;
    auto [end, error] = std::from_chars(target->data(), target->data() + target->size(), pid);
    bool is_number = error == std::errc() && end == target->data() + target->size();
    auto snapshot =
        is_number ? coil::tools::snapshot_of_process(pid) : coil::tools::snapshot_of_core(*target);
    std::string text = json              ? show_json(snapshot)
                       : command == "ps" ? show_table(snapshot, options)
                                         : show_tree(snapshot, options);
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        return FAILED;
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string_view> arguments(argv + 1, argv + argc);
    if (arguments.empty()) return misused("what is to be done?");
    std::string_view command = arguments.front();
    auto rest = std::span(arguments).subspan(1);
    if (command == "--help" || command == "-h" || command == "help") {
        fmt::print("{}", USAGE);
        return 0;
    }
    try {
        if (command == "ps" || command == "pstree") return show(command, rest);
    } catch (const coil::tools::Failure& e) {
        fmt::print(stderr, "coil: {}\n", e.what());
        return FAILED;
    }
    if (command == "trace" && !rest.empty() && rest.front() == "summary")
        return coil::tools::trace_summary(rest.subspan(1));
    return misused(fmt::format("unknown command '{}'", command));
}
