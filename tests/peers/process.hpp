#pragma once

// Another program, run beside a test.

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coil/sockets.hpp"
#include "coil/streams.hpp"

namespace peers {

/// Killed, with what it has started, by the destructor, and with this process. Its stdout and stderr are one stream.
class Process {
  public:
    struct Result {
        Result() = default;  // no aggregate: GCC 12 destroys those twice in a co_await
        int exit_code = -1;  // -1: a signal ended it
        std::string output;  // what was not read before
    };

    /// Of the running loop. The child inherits `inherited`, under the same numbers.
    static coil::Coro<Process> start(std::vector<std::string> command,
                                     std::vector<std::string> environment = {},
                                     std::vector<int> inherited = {});

    Process(Process&& other) noexcept;
    Process& operator=(Process&& other) = delete;
    ~Process();

    coil::StreamReader& output() { return *output_; }
    /// Its stdin.
    void write(std::string_view data) { input_->write(data); }
    void close_input() { input_->close(); }
    /// Reads its output until a line contains the text, and gives that line; RuntimeError with the output if it ends before.
    coil::Coro<std::string> line_with(std::string text);
    /// Its end, after `close_input()`.
    coil::Coro<Result> finish();
    void kill(int signal) noexcept;

  private:
    Process() = default;

    pid_t pid_ = 0;  // 0: it has been waited for
    std::string name_;
    std::optional<coil::StreamReader> output_;
    std::optional<coil::StreamWriter> input_;
    std::shared_ptr<coil::Transport> output_transport_;
};

}  // namespace peers
