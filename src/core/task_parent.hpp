#pragma once

// Structured concurrency is a layer up; call graphs are here.

namespace coil::detail {

struct DoneNode;
class TaskBase;

/// sync: who waits for the end of a task by this node, if that is its parent in a task group; null: other nodes.
using ParentByNode = TaskBase* (*)(const DoneNode& node) noexcept;
extern constinit ParentByNode parent_by_node;

}  // namespace coil::detail
