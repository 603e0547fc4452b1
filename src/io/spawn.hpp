#pragma once

// Starting a process: options in, a running child out. No loop.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "coil/sockets.hpp"
#include "coil/subprocess.hpp"

namespace coil::detail {

struct SpawnedChild {
    int pid = -1;
    Socket pidfd;                 // none: it has ended, and the kernel has not kept its status
    std::array<Socket, 3> pipes;  // the parent's ends, where there are pipes
};

/// Everything about a child that is to be started, with texts of its own.
class SpawnPlan {
  public:
    /// `argv`: the program's name first. `unsaid`: what becomes of the standard streams that no option speaks of.
    SpawnPlan(std::vector<std::string> argv, const SubprocessOptions& options, Stdio unsaid);

    Stdio stream(std::size_t number) const noexcept { return streams_[number]; }
    std::size_t limit() const noexcept { return options_.limit; }

    /// "'/bin/sh' '-c' 'exit 1'"
    std::string describe() const;

    /// OSError if it does not start, ValueError for what cannot be meant.
    SpawnedChild start() const;

  private:
    struct OwnAccount {
        explicit OwnAccount(const Account& account)
            : given(account), id(account.id()), name(account.name()) {}
        bool given;
        unsigned id;
        std::string name;
    };

    void check() const;
    std::vector<std::string> candidates() const;
    std::vector<std::string> environment() const;
    static unsigned user_id(const OwnAccount& user);
    static unsigned group_id(const OwnAccount& group);

    std::vector<std::string> argv_;
    SubprocessOptions options_;  // but for the views in it
    std::array<Stdio, 3> streams_;
    std::string cwd_;
    std::string executable_;
    std::optional<std::vector<std::pair<std::string, std::string>>> env_;
    std::vector<int> pass_fds_;
    OwnAccount user_;
    OwnAccount group_;
    std::optional<std::vector<OwnAccount>> extra_groups_;
};

}  // namespace coil::detail
