// create_subprocess_exec/shell: communicate, return codes, stderr, stdin.

#include "scenario.hpp"

namespace conformance {

namespace {

using coil::DEVNULL;
using coil::PIPE;
using coil::Process;
using coil::STDOUT;

std::string strip(const std::optional<std::string>& text) {
    return text->substr(0, text->find_last_not_of(" \n") + 1);
}
const char* none_or_some(bool some) { return some ? "some" : "none"; }

Coro<int> job(std::string name, std::string delay) {
    std::string command = "sleep " + delay + "; echo " + name;
    Process p = co_await coil::create_subprocess_shell(command, {.stdout_ = PIPE});
    auto [out, err] = co_await p.communicate();
    print("finished", strip(out));
    co_return p.returncode().value();
}

Coro<> main() {
    {
        Process p = co_await coil::create_subprocess_exec("cat", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
        print("running", yn(!p.returncode()));
        auto [out, err] = co_await p.communicate("through cat");
        print("cat:", out.value(), "| stderr", none_or_some(err.has_value()), "| code",
              p.returncode().value());
    }
    {
        Process p = co_await coil::create_subprocess_shell("echo out; echo err 1>&2; exit 3",
                                                           {.stdout_ = PIPE, .stderr_ = PIPE});
        auto [out, err] = co_await p.communicate();
        print("shell:", strip(out), "|", strip(err), "| code", p.returncode().value());
    }
    {
        Process p =
            co_await coil::create_subprocess_shell("echo err 1>&2", {.stdout_ = PIPE, .stderr_ = STDOUT});
        auto [out, err] = co_await p.communicate();
        print("merged:", strip(out), "|", none_or_some(err.has_value()));
    }
    {
        Process p = co_await coil::create_subprocess_exec("true", {}, {.stdout_ = DEVNULL});
        int first = co_await p.wait();
        int again = co_await p.wait();
        print("wait:", first, "again", again, "stdout", none_or_some(static_cast<bool>(p.stdout_())));
    }
    try {
        co_await coil::create_subprocess_exec("/no/such/program");
    } catch (const coil::FileNotFoundError&) {
        print("missing program -> FileNotFoundError");
    }
    auto [slow, fast] = co_await coil::gather(job("slow", "0.8"), job("fast", "0.05"));
    print("codes", slow, fast);
}

SCENARIO("170_subprocess_communicate", "needs pipes and processes") {
    coil::run(main(), {.loop_factory = new_loop});
}

}  // namespace

}  // namespace conformance
