#pragma once

// `coil ps` and `coil pstree`: a snapshot as a table, a tree or JSON.

#include <string>

#include "tools/coil/snapshot.hpp"

namespace coil::tools {

struct ShowOptions {
    bool colours = false;
};

std::string show_table(const Snapshot& snapshot, const ShowOptions& options = {});
/// Who awaits whom; every coroutine on the way.
std::string show_tree(const Snapshot& snapshot, const ShowOptions& options = {});
std::string show_json(const Snapshot& snapshot);

}  // namespace coil::tools
