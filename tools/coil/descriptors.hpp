#pragma once

// What a process's descriptors are, as /proc knows.

#include <sys/types.h>

#include <map>
#include <string>

namespace coil::tools {

class Descriptors {
  public:
    explicit Descriptors(pid_t pid);

    /// "to 10.0.0.1:80", "a path"; empty where nothing is known.
    std::string describe(int descriptor) const;

  private:
    pid_t pid_;
    std::map<std::string, std::string> peers_;  // by inode
};

}  // namespace coil::tools
