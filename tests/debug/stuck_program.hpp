#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

/// tests/debug/stuck, run beside a test. Killed by the destructor, and with this process.
class StuckProgram {
  public:
    struct Options {
        bool graph = false;                      // says the call graphs of its tasks
        std::vector<std::string> environment{};  // "NAME=value", besides COIL_BACKEND
    };
    /// Returns when it is stuck. `kind` as in stuck.cpp.
    explicit StuckProgram(const std::string& kind, const std::string& backend = "epoll",
                          const Options& options = {false, {}});
    StuckProgram(const StuckProgram&) = delete;
    StuckProgram& operator=(const StuckProgram&) = delete;
    ~StuckProgram();

    pid_t pid() const noexcept { return pid_; }
    /// What it said before "ready".
    const std::string& output() const noexcept { return output_; }
    bool alive() const;
    /// Sends the signal and waits for its end. What it said after "ready".
    std::string end_by(int signal_number);

  private:
    pid_t pid_;
    int pipe_ = -1;
    std::string output_;
};

struct CommandResult {
    int exit_code;
    std::string output;  // and errors
};
CommandResult run_command(const std::vector<std::string>& command);

/// Whether this process may look into its children: not in every container.
bool may_trace();
/// False where a core file would have the terabytes of a sanitizer's shadow memory.
bool core_files_are_small();
