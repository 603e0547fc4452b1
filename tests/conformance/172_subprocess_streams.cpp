// Talking to a subprocess line by line; EOF on stdin; early exit of the child.

#include "scenario.hpp"

namespace conformance {

namespace {

using coil::PIPE;
using coil::Process;

std::string strip(std::string text) {
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
}

Coro<> main() {
    {
        Process p = co_await coil::create_subprocess_shell(
            "while read line; do echo got $line; done; echo end", {.stdin_ = PIPE, .stdout_ = PIPE});
        for (const char* word : {"one", "two", "three"}) {
            p.stdin_().write(std::string(word) + "\n");
            co_await p.stdin_().drain();
            print(strip(co_await p.stdout_().readline()));
        }
        p.stdin_().close();
        co_await p.stdin_().wait_closed();
        while (auto line = co_await p.stdout_().next()) print("rest:", strip(*line));
        int code = co_await p.wait();
        print("code", code, "at_eof", yn(p.stdout_().at_eof()));
    }
    {
        Process p = co_await coil::create_subprocess_exec("true", {}, {.stdin_ = PIPE, .stdout_ = PIPE});
        std::string input(1000000, 'x');
        auto [out, err] = co_await p.communicate(std::move(input));
        print("child ignored its input: code", p.returncode().value(), "output", out->size());
    }
    {
        Process p = co_await coil::create_subprocess_shell(
            "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done", {.stdout_ = PIPE});
        int count = 0;
        std::string last;
        while (auto line = co_await p.stdout_().next()) {
            ++count;
            last = strip(*line);
        }
        int code = co_await p.wait();
        print("lines", count, "last", last, "code", code);
    }
}

SCENARIO("172_subprocess_streams", "needs pipes and processes") {
    coil::run(main(), {.loop_factory = new_loop});
}

}  // namespace

}  // namespace conformance
